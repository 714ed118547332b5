#include "server/loadgen/descriptors.h"

#include <sys/resource.h>

#include <algorithm>

namespace trireme::loadgen {

int64_t ConnectionDescriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return INT32_MAX;  // then the kernel has the last word
  if (limit.rlim_cur < limit.rlim_max) {
    rlimit raised = limit;
    raised.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  const rlim_t most = std::min<rlim_t>(limit.rlim_cur, INT32_MAX);
  return std::max<int64_t>(static_cast<int64_t>(most) - kReservedDescriptors, 0);
}

}  // namespace trireme::loadgen
