// The command line, the environment (TRIREME_*) and YAML files, read against one schema (schema.h).
//
// Precedence: flag, then environment, then --config file, then default. `--kv-cache-memory 2GiB`,
// TRIREME_KV_CACHE_MEMORY=2GiB and `kv-cache-memory: 2GiB` are the same setting. A list is a
// repeated flag, a YAML list, or commas in the environment. One file may serve several commands:
// what belongs to another command is passed over, what belongs to none is refused.
#pragma once

#include "server/cli/schema.h"

namespace trireme {

struct ParsedCommandLine {
  Command command = Command::kExit;
  // For kExit: help and version give 0, mistakes 2; everything has been printed already.
  int exit_code = 0;
  Options options;
};

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv);

// Logs options.unknown_variables.
void WarnOfUnknownVariables(const Options& options);

}  // namespace trireme
