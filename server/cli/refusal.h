// Why a command line is refused, in our words where the parser's own would mislead.
#pragma once

#include <vector>

#include "server/cli/setting.h"

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace trireme {

// To standard error: the flag or command that nothing knows, with the nearest known one; else what
// CLI11 says.
void PrintRefusal(const CLI::App& app, const CLI::ParseError& error,
                  const std::vector<Setting>& schema);

}  // namespace trireme
