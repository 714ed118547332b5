// This node's ranks of a model: a device and a part of the weights each, loaded side by side.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/engine/ranks.h"
#include "runtime/model/model_files.h"
#include "server/node/load.h"

namespace trireme {

// Whether the model runs on GPUs.
bool OnGpus(const LoadOptions& options);

// Whether this machine has the devices that the options want of it, before anything waits for
// other nodes. INVALID_ARGUMENT names the flag; else as CountCudaDevices.
absl::Status CheckDevices(const LoadOptions& options);

// options.ranks_here() of them, without a KV cache yet; they join those of other nodes that were
// given the same `group` (NewRankGroup; empty: the model has one rank). `scheduler`: what steps
// will be like. `progress` is called by one thread at a time, with bytes of all ranks together.
absl::StatusOr<std::vector<ModelRank>> LoadRanks(const LoadOptions& options,
                                                 const ModelFiles& files,
                                                 const SchedulerOptions& scheduler,
                                                 const std::string& group,
                                                 const LoadProgress& progress);

// For people: "cuda:0 (NVIDIA H100) and 1 more", of `num_ranks` such devices on all nodes.
std::string DescribeRanks(const std::vector<ModelRank>& ranks, int num_ranks);

// Of the device that has the least: a KV cache is of one size on all.
FreeMemory LeastMemory(const std::vector<ModelRank>& ranks);

}  // namespace trireme
