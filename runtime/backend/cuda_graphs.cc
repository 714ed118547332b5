#include "runtime/backend/cuda_graphs.h"

#include "runtime/backend/cuda_memory.h"
#include "runtime/base/status.h"

namespace trireme {

GraphCache::~GraphCache() {
  if (captured_ != nullptr) cudaGraphDestroy(captured_);
  for (const auto& [key, graph] : graphs_) cudaGraphExecDestroy(graph);
}

absl::Status GraphCache::Launch(int key, cudaStream_t stream) const {
  return CudaStatus(cudaGraphLaunch(graphs_.at(key), stream), "launching a graph");
}

absl::Status GraphCache::Capture(int key, cudaStream_t stream, absl::FunctionRef<void()> enqueue) {
  if (Has(key) || captured_ != nullptr || graphs_.size() >= static_cast<size_t>(max_graphs_)) {
    return absl::OkStatus();
  }
  // Thread-local: what other threads do with CUDA is none of the capture's business.
  TRIREME_RETURN_IF_ERROR(CudaStatus(
      cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing a graph"));
  enqueue();
  captured_key_ = key;
  return CudaStatus(cudaStreamEndCapture(stream, &captured_), "capturing a graph");
}

absl::Status GraphCache::Instantiate() {
  if (captured_ == nullptr) return absl::OkStatus();
  cudaGraphExec_t instance = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&instance, captured_, 0);
  cudaGraphDestroy(captured_);
  captured_ = nullptr;
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    max_graphs_ = static_cast<int>(graphs_.size());
    return absl::OkStatus();
  }
  TRIREME_RETURN_IF_ERROR(CudaStatus(error, "instantiating a graph"));
  graphs_.emplace(captured_key_, instance);
  return absl::OkStatus();
}

}  // namespace trireme
