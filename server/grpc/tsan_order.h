// ThreadSanitizer does not see the locks of the packaged gRPC, by which the calls of one reactor
// follow each other, and the end of the server all of them. These tell it; in any other build they
// are nothing.
#pragma once

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace trireme::rpc {

// What this thread has done to the reactor (or service context) is over when gRPC calls it again,
inline void HandOver([[maybe_unused]] const void* reactor) {
#ifdef __SANITIZE_THREAD__
  __tsan_release(const_cast<void*>(reactor));
#endif
}
// ... which is now.
inline void TakeOver([[maybe_unused]] const void* reactor) {
#ifdef __SANITIZE_THREAD__
  __tsan_acquire(const_cast<void*>(reactor));
#endif
}

}  // namespace trireme::rpc
