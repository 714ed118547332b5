#include "server/cli/commands.h"
#include "server/cli/options.h"

int main(int argc, char** argv) {
  const trireme::ParsedCommandLine parsed = trireme::ParseCommandLine(argc, argv);
  switch (parsed.command) {
    case trireme::Command::kServe:
      return trireme::RunServe(parsed.serve);
    case trireme::Command::kGenerate:
      return trireme::RunGenerate(parsed.generate);
    case trireme::Command::kInspect:
      return trireme::RunInspect(parsed.inspect);
    case trireme::Command::kExit:
      break;
  }
  return parsed.exit_code;
}
