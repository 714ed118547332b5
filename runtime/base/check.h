// Invariants. A broken one stops the process with file, line and the values; nothing a client sends
// may reach one.
#pragma once

#include <cstdio>
#include <cstdlib>

#define TRIREME_CHECK(condition)                                                             \
  do {                                                                                       \
    if (__builtin_expect(!(condition), 0)) {                                                 \
      std::fprintf(stderr, "%s:%d: invariant broken: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)

#ifdef NDEBUG
#define TRIREME_DCHECK(condition) static_cast<void>(sizeof(condition))
#else
#define TRIREME_DCHECK(condition) TRIREME_CHECK(condition)
#endif
