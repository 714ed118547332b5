// The nodes of a group as the launcher of their processes tells them: Kubernetes' LeaderWorkerSet
// (LWS_LEADER_ADDRESS, LWS_GROUP_SIZE, LWS_WORKER_INDEX), or Slurm (srun: SLURM_STEP_NUM_NODES,
// SLURM_STEP_NODELIST, else those of the job, and SLURM_NODEID).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/ranks/rank_group.h"

namespace trireme {

// nullopt when unset or empty.
using EnvironmentReader = std::function<std::optional<std::string>(const char* name)>;

// Fills in what the options leave open, when they do not say how many nodes there are.
// INVALID_ARGUMENT names a variable that makes no sense.
absl::Status UseGroupEnvironment(const EnvironmentReader& environment, RankGroupOptions* options);

// Of a Slurm host list: "n[03-05,9],m1" -> "n03".
absl::StatusOr<std::string> FirstHost(std::string_view list);

}  // namespace trireme
