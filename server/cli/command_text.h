// What --help, the manual page and the completions say about each command, besides its settings.
#pragma once

#include "absl/types/span.h"
#include "server/cli/schema.h"

namespace trireme {

struct CommandText {
  Command command;
  const char *name, *summary;
  const char* footer;  // explanation, examples, exit codes: lines as they stand
};

// In the order of --help.
absl::Span<const CommandText> Commands();

inline constexpr char kProgramSummary[] =
    "Trireme serves language models over OpenAI-compatible HTTP and gRPC.";

// Where settings come from.
inline constexpr char kSources[] =
    "Every setting is also an environment variable (named above) and a key of the --config file,\n"
    "named like the flag: --http-port 9000, TRIREME_HTTP_PORT=9000, \"http-port: 9000\"; MODEL is\n"
    "TRIREME_MODEL and \"model:\". Flags win over the environment, the environment over the "
    "file.\n"
    "A list is a repeated flag, a YAML list, or, in the environment, split at commas.\n\n";

}  // namespace trireme
