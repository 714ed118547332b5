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

  // Whether a graph for this key is there or may be captured.
  bool Accepts(int key) const;
  // Enqueues what `enqueue` enqueues on the stream: captured once for each key. A device that has
  // no memory for another graph gets none, from then on.
  absl::Status Launch(int key, cudaStream_t stream, absl::FunctionRef<void()> enqueue);

 private:
  int max_graphs_;
  std::map<int, cudaGraphExec_t> graphs_;
};

}  // namespace trireme
