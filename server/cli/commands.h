// The subcommands. Each returns the process's exit code and prints its own errors.
#pragma once

#include "server/cli/schema.h"
#include "server/node/load.h"

namespace trireme {

// Exit codes: 0 done (or drained), 1 could not start or run, 2 usage, 3 aborted by a second signal
// (bench, pull: by the first), 4 the device was lost (serve).
inline constexpr int kExitOk = 0, kExitFailure = 1, kExitUsage = 2, kExitAborted = 3,
                     kExitDeviceLost = 4;

int RunServe(const Options& options);
int RunFollower(const Options& options);  // what RunServe is on other nodes than the first
int RunGenerate(const Options& options);
int RunInspect(const Options& options);
int RunBench(const Options& options);
int RunAuditVerify(const Options& options);
int RunDoctor(const Options& options);
int RunPull(const Options& options);
int RunCompletion(const Options& options);
int RunMan();

// A progress line on stderr that redraws itself on a terminal and logs milestones elsewhere.
LoadProgress MakeProgressPrinter();

}  // namespace trireme
