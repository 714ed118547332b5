#include "server/cli/commands.h"
#include "server/cli/options.h"

int main(int argc, char** argv) {
  const trireme::ParsedCommandLine parsed = trireme::ParseCommandLine(argc, argv);
  switch (parsed.command) {
    case trireme::Command::kServe:
      return trireme::RunServe(parsed.options);
    case trireme::Command::kGenerate:
      return trireme::RunGenerate(parsed.options);
    case trireme::Command::kInspect:
      return trireme::RunInspect(parsed.options);
    case trireme::Command::kBench:
      return trireme::RunBench(parsed.options);
    case trireme::Command::kAuditVerify:
      return trireme::RunAuditVerify(parsed.options);
    case trireme::Command::kDoctor:
      return trireme::RunDoctor(parsed.options);
    case trireme::Command::kPull:
      return trireme::RunPull(parsed.options);
    case trireme::Command::kCompletion:
      return trireme::RunCompletion(parsed.options);
    case trireme::Command::kMan:
      return trireme::RunMan();
    case trireme::Command::kExit:
      break;
  }
  return parsed.exit_code;
}
