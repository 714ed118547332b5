// CUDA graphs of decode steps, one for each padded number of tokens: captured when it is first
// needed, at most so many. A step of 100 launches costs one.
#pragma once

#include <cuda_runtime_api.h>

#include <map>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace trireme {

// Used by one thread, which has made the device current.
class GraphCache {
 public:
  explicit GraphCache(int max_graphs) : max_graphs_(max_graphs) {}
  ~GraphCache();

  bool Has(int key) const { return graphs_.contains(key); }
  absl::Status Launch(int key, cudaStream_t stream) const;  // one that it has
  // Notes what `enqueue` enqueues on the stream, and enqueues nothing. No effect when there is a
  // graph for this key, or no room for one.
  absl::Status Capture(int key, cudaStream_t stream, absl::FunctionRef<void()> enqueue);
  // Makes a graph of what was captured. That allocates device memory, which may wait for kernels:
  // not while one on another device waits for this device's. A device that has no memory for
  // another graph gets none, from then on.
  absl::Status Instantiate();

 private:
  int max_graphs_;
  std::map<int, cudaGraphExec_t> graphs_;
  int captured_key_ = 0;
  cudaGraph_t captured_ = nullptr;  // null: nothing
};

}  // namespace trireme
