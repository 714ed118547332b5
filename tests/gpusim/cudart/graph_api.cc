// Graphs: caught from streams, run as a whole. Nodes run in a random order that their edges allow.
#include <algorithm>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "tests/gpusim/cudart/graph.h"
#include "tests/gpusim/cudart/runtime.h"

using trireme::gpusim::Capture;
using trireme::gpusim::GraphNode;
using trireme::gpusim::Record;
using trireme::gpusim::Runtime;

namespace trireme::gpusim {
namespace {

// Every node after those it waits for.
std::vector<size_t> RandomOrder(const std::vector<GraphNode>& nodes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<size_t> missing(nodes.size()), ready, order;
  std::vector<std::vector<size_t>> behind(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    missing[i] = nodes[i].after.size();
    for (const size_t before : nodes[i].after) behind[before].push_back(i);
    if (missing[i] == 0) ready.push_back(i);
  }
  while (!ready.empty()) {
    std::swap(ready[random() % ready.size()], ready.back());
    const size_t next = ready.back();
    ready.pop_back();
    order.push_back(next);
    for (const size_t i : behind[next]) {
      if (--missing[i] == 0) ready.push_back(i);
    }
  }
  return order;
}

// A node comes after those that were captured earlier, if at all.
GraphAncestors AncestorsOf(const std::vector<GraphNode>& nodes) {
  bool is_chain = true;
  for (size_t i = 1; i < nodes.size(); ++i) is_chain &= nodes[i].after == std::vector{i - 1};
  if (is_chain) return nullptr;
  std::vector<std::vector<bool>> ancestors(nodes.size(), std::vector<bool>(nodes.size(), false));
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const size_t before : nodes[i].after) {
      ancestors[i][before] = true;
      for (size_t j = 0; j < before; ++j) ancestors[i][j] = ancestors[i][j] || ancestors[before][j];
    }
  }
  return std::make_shared<const std::vector<std::vector<bool>>>(std::move(ancestors));
}

// The nodes of one launch, one after the other. One that waits goes on where it was.
class RunningGraph {
 public:
  RunningGraph(std::vector<GraphNode> nodes, GraphAncestors ancestors, std::vector<size_t> order)
      : nodes_(std::move(nodes)), ancestors_(std::move(ancestors)), order_(std::move(order)) {}

  cudaError_t Run() {
    StreamOperation* const launch = StreamOperation::Current();
    for (; next_ < order_.size(); ++next_) {
      const size_t at = order_[next_];
      if (operation_ == nullptr) {
        operation_ = std::make_shared<StreamOperation>(nodes_[at].what, *launch,
                                                       static_cast<uint32_t>(at), ancestors_);
      }
      StreamOperation::Current() = operation_.get();
      const cudaError_t error = nodes_[at].work();
      StreamOperation::Current() = launch;
      if (error != cudaSuccess) return error;
      launch->Learn(operation_->Clock());  // what it has learned meanwhile
      operation_ = nullptr;
    }
    return cudaSuccess;
  }

 private:
  std::vector<GraphNode> nodes_;  // of its own: they remember how far they came
  const GraphAncestors ancestors_;
  const std::vector<size_t> order_;
  size_t next_ = 0;
  std::shared_ptr<StreamOperation> operation_;  // of the node that waits
};

bool SameShape(const std::vector<GraphNode>& a, const std::vector<GraphNode>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.what == y.what && x.after == y.after;
  });
}

}  // namespace
}  // namespace trireme::gpusim

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode) {
  CUstream_st* const stream = Runtime::Get().Resolve(handle);
  if (stream == nullptr) return Record(cudaErrorInvalidResourceHandle);
  if (stream->queue->is_default) return Record(cudaErrorStreamCaptureUnsupported);
  if (stream->capture != nullptr) return Record(cudaErrorIllegalState);
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream;
  return Record(cudaSuccess);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  CUstream_st* const stream = Runtime::Get().Resolve(handle);
  if (stream == nullptr) return Record(cudaErrorInvalidResourceHandle);
  *status = stream->capture == nullptr ? cudaStreamCaptureStatusNone
            : stream->capture->broken  ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  return Record(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  *graph = nullptr;
  Runtime& runtime = Runtime::Get();
  CUstream_st* const stream = runtime.Resolve(handle);
  if (stream == nullptr) return Record(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture == nullptr) return Record(cudaErrorIllegalState);
  if (capture->origin != stream) return Record(cudaErrorStreamCaptureUnmatched);
  // Every branch must have come back to this stream: its last node is waited for by some other.
  std::vector<bool> followed(capture->nodes.size(), false);
  for (const GraphNode& node : capture->nodes) {
    for (const size_t before : node.after) followed[before] = true;
  }
  for (const size_t last : capture->last[stream]) followed[last] = true;
  {
    std::lock_guard lock(runtime.mu);
    for (const auto& [joined, last] : capture->last) {
      if (runtime.streams.contains(joined)) joined->capture = nullptr;
    }
  }
  stream->capture = nullptr;
  if (capture->broken) return Record(cudaErrorStreamCaptureInvalidated);
  if (std::find(followed.begin(), followed.end(), false) != followed.end()) {
    return Record(cudaErrorStreamCaptureUnjoined);
  }
  *graph = new CUgraph_st{std::move(capture->nodes)};
  return Record(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return Record(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{std::make_shared<const std::vector<GraphNode>>(graph->nodes),
                             trireme::gpusim::AncestorsOf(graph->nodes),
                             Runtime::current_device(),
                             {}};
  return Record(cudaSuccess);
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph,
                                          unsigned long long flags) {
  return cudaGraphInstantiate(exec, graph, flags);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;  // a launch that is under way has its own reference to the nodes
  return Record(cudaSuccess);
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo* info) {
  if (!trireme::gpusim::SameShape(*exec->nodes, graph->nodes)) {
    info->result = cudaGraphExecUpdateErrorTopologyChanged;
    return Record(cudaErrorGraphExecUpdateFailure);
  }
  exec->nodes = std::make_shared<const std::vector<GraphNode>>(graph->nodes);
  info->result = cudaGraphExecUpdateSuccess;
  return Record(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  Runtime& runtime = Runtime::Get();
  const uint64_t seed = runtime.NewSeed();
  auto order = trireme::gpusim::RandomOrder(*exec->nodes, seed);
  CUstream_st* const on = runtime.Resolve(stream);
  if (on == nullptr) return Record(cudaErrorInvalidResourceHandle);
  if (on->capture == nullptr) runtime.queues.WaitFor(on->queue, exec->last_launch);
  const cudaError_t error = runtime.Submit(
      stream, "graph",
      [running = trireme::gpusim::RunningGraph(
           *exec->nodes, exec->ancestors, std::move(order))]() mutable { return running.Run(); });
  if (on->capture == nullptr) exec->last_launch = runtime.queues.End(on->queue);
  return Record(error);
}

}  // extern "C"
