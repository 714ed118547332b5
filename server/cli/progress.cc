#include <unistd.h>

#include <cstdio>

#include "runtime/base/log.h"
#include "server/cli/commands.h"

namespace trireme {

LoadProgress MakeProgressPrinter() {
  const bool terminal = isatty(STDERR_FILENO) != 0;
  return [terminal, last = -1](int64_t done, int64_t total) mutable {
    const int percent = total > 0 ? static_cast<int>(done * 100 / total) : 100;
    if (percent == last) return;
    last = percent;
    if (terminal) {
      // Redraws one line, and clears it at the end.
      std::fprintf(stderr, percent == 100 ? "\r\033[K" : "\r\033[KLoading weights %d%%", percent);
      std::fflush(stderr);
    } else if (percent % 25 == 0) {
      Log(LogLevel::kInfo, "loading", {{"percent", percent}});
    }
  };
}

}  // namespace trireme
