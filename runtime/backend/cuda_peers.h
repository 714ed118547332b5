// Memory that the ranks of one process read of each other, for kernels/cuda/comm.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cuda/comm/all_reduce.h"
#include "runtime/backend/backend.h"

namespace trireme {

// One for all ranks. Each adds its memory while it loads; steps begin when all have.
class CudaPeers {
 public:
  // Devices [0, num_devices), or null where one of them cannot reach another, or there are too
  // many: the ranks then exchange over NCCL alone.
  static absl::StatusOr<std::shared_ptr<CudaPeers>> Connect(int num_devices);

  // Any thread. `workspace`: what the others read; of the same layout on every rank.
  void Add(int rank, Buffer& workspace, Buffer& shares, Buffer& flags);

  // The group as `rank` sees it, for the message at `in` in its workspace. Any thread.
  cuda::Peers Group(int rank, const void* in, const uint32_t* abort) const;

 private:
  struct Memory {
    uint8_t* workspace = nullptr;
    void* shares = nullptr;
    uint32_t* flags = nullptr;
  };
  explicit CudaPeers(int num_devices) : memory_(static_cast<size_t>(num_devices)) {}

  mutable std::mutex mu_;
  std::vector<Memory> memory_;  // guarded by mu_; by rank
};

}  // namespace trireme
