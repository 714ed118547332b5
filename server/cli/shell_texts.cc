// trireme completion, trireme man.
#include "server/cli/shell_texts.h"

#include <iostream>

#include "server/cli/commands.h"

namespace trireme {
namespace {

int Print(const std::string& text) {
  std::cout << text << std::flush;
  return std::cout ? kExitOk : kExitFailure;
}

}  // namespace

int RunCompletion(const Options& options) { return Print(CompletionScript(options.shell)); }

int RunMan() { return Print(ManualPage()); }

}  // namespace trireme
