#include "runtime/backend/cuda_graphs.h"

#include "runtime/backend/cuda_memory.h"
#include "runtime/base/status.h"

namespace trireme {

GraphCache::~GraphCache() {
  for (const auto& [key, graph] : graphs_) cudaGraphExecDestroy(graph);
}

bool GraphCache::Accepts(int key) const {
  return graphs_.contains(key) || graphs_.size() < static_cast<size_t>(max_graphs_);
}

absl::Status GraphCache::Launch(int key, cudaStream_t stream, absl::FunctionRef<void()> enqueue) {
  auto found = graphs_.find(key);
  if (found == graphs_.end()) {
    // Thread-local: what other threads do with CUDA is none of the capture's business.
    TRIREME_RETURN_IF_ERROR(CudaStatus(
        cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing a graph"));
    enqueue();
    cudaGraph_t graph = nullptr;
    TRIREME_RETURN_IF_ERROR(CudaStatus(cudaStreamEndCapture(stream, &graph), "capturing a graph"));
    cudaGraphExec_t instance = nullptr;
    const cudaError_t error = cudaGraphInstantiate(&instance, graph, 0);
    cudaGraphDestroy(graph);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      max_graphs_ = static_cast<int>(graphs_.size());
      enqueue();
      return absl::OkStatus();
    }
    TRIREME_RETURN_IF_ERROR(CudaStatus(error, "instantiating a graph"));
    found = graphs_.emplace(key, instance).first;
  }
  return CudaStatus(cudaGraphLaunch(found->second, stream), "launching a graph");
}

}  // namespace trireme
