// Node 0's end of the control plane (proto/trireme/v1/ranks.proto): waits for the other nodes,
// brings them up with it, and hands them every step.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/backend/backend.h"
#include "runtime/engine/ranks.h"
#include "runtime/model/kv_storage.h"
#include "server/ranks/rank_group.h"
#include "trireme/v1/ranks.pb.h"

namespace trireme {

// Start, ... in this order, by one thread; between them, whatever this node itself has to load.
class ControlLeader {
 public:
  // `lost` hears of the first node that ends, fails or cannot be reached once Gather has returned,
  // from any thread; it must not destroy the leader. UNAVAILABLE: the address is taken or not ours.
  static absl::StatusOr<std::unique_ptr<ControlLeader>> Listen(
      const RankGroupOptions& options, std::function<void(const absl::Status& error)> lost);
  // Ends the followers: orderly once nodes() were handed out, else as failed. Whoever has nodes()
  // is gone by then.
  ~ControlLeader();

  // Waits until all nodes are there with this version, this model and their share of `num_ranks`
  // devices. Nodes that differ are turned away, and waited for again. DEADLINE_EXCEEDED after ten
  // minutes. `wait` is called once a second meanwhile. What fails from here on ends them all.
  absl::Status Gather(int num_ranks, const std::string& model_digest,
                      const std::function<void()>& wait);
  // Has them load.
  absl::Status Start(const v1::LeaderMessage::Start& start);
  // Waits until all have loaded: the memory of the node that has the least, or `own`.
  absl::StatusOr<FreeMemory> LeastMemory(FreeMemory own, const std::function<void()>& wait);
  // Waits until all have made their KV cache of `num_blocks`.
  absl::Status MakeKvCaches(int num_blocks, DType dtype, const std::function<void()>& wait);
  // Nodes 1, 2, ..., ready for steps.
  std::vector<std::shared_ptr<RemoteNode>> nodes();

 private:
  class Impl;
  explicit ControlLeader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme
