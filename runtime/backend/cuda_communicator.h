// What the ranks of a model exchange between devices, over NCCL (2.19 or later; nccl.h's contract).
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "runtime/backend/cuda_backend.h"
#include "runtime/backend/cuda_peers.h"

namespace trireme {

// One rank's end. All ranks call the same operations in the same order; they are enqueued on the
// stream, and may be captured. Used by one thread, but for Abort.
class CudaCommunicator {
 public:
  // Takes `comm`. JoinRanks makes them.
  CudaCommunicator(int rank, int num_ranks, ncclComm_t comm)
      : rank_(rank), num_ranks_(num_ranks), comm_(comm) {}
  ~CudaCommunicator();

  // Set when all ranks are devices of this process that reach each other's memory.
  void set_peers(std::shared_ptr<CudaPeers> peers) { peers_ = std::move(peers); }
  CudaPeers* peers() const { return peers_.get(); }

  int rank() const { return rank_; }
  int num_ranks() const { return num_ranks_; }

  // x becomes the sum over the ranks, in no order to rely on: for values that all ranks but one
  // have as zero, where it is exact.
  absl::Status Sum(float* x, size_t count, cudaStream_t stream);
  // to: [num_ranks, bytes], the ranks' one behind the other.
  absl::Status AllGather(const void* from, size_t bytes, void* to, cudaStream_t stream);
  // The same on the first rank alone; `to` is null on the others.
  absl::Status Gather(const void* from, size_t bytes, void* to, cudaStream_t stream);

  // What went wrong beside the calls: a rank that has ended, a network that failed.
  absl::Status Health();
  // Any thread. Operations under way end, with nothing of use; later ones return UNAVAILABLE.
  // Returns at once: NCCL itself waits for graphs that hold its operations to be destroyed, and for
  // a call that is connecting to its peers.
  void Abort();

 private:
  absl::Status Call(const char* what, absl::FunctionRef<ncclResult_t(ncclComm_t)> call);

  const int rank_, num_ranks_;
  std::shared_ptr<CudaPeers> peers_;
  std::timed_mutex mu_;           // held in calls
  std::atomic<ncclComm_t> comm_;  // null once aborted
  std::atomic<bool> aborted_ = false;
  std::thread aborter_;
};

}  // namespace trireme
