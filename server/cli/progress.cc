#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "server/cli/commands.h"

namespace trireme {

LoadProgress MakeProgressPrinter() {
  struct State {
    std::string stage;
    int percent = -1;
  };
  auto state = std::make_shared<State>();
  const bool terminal = isatty(STDERR_FILENO) != 0;
  return [state, terminal](std::string_view stage, int64_t done, int64_t total) {
    const int percent = total > 0 ? static_cast<int>(done * 100 / total) : 100;
    const bool new_stage = stage != state->stage;
    if (!new_stage && percent == state->percent) return;
    state->stage = stage;
    state->percent = percent;
    if (terminal) {
      std::fprintf(stderr, "\r\033[K%.*s %d%%", static_cast<int>(stage.size()), stage.data(), percent);
      if (percent == 100) std::fputs("\r\033[K", stderr);
      std::fflush(stderr);
    } else if (new_stage) {
      Log(LogLevel::kInfo, "loading", {{"stage", stage}});
    }
  };
}

}  // namespace trireme
