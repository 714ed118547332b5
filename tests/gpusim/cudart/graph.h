// Graphs: work with its order, caught from streams and run as a whole.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/gpusim/cudart/stream.h"
#include "tests/gpusim/vm/stream_operation.h"

namespace trireme::gpusim {

struct GraphNode {
  std::string what;  // "kernel add", "copy": for updates, which must not change it
  std::function<cudaError_t()> work;
  std::vector<size_t> after;  // nodes
};

// A stream's capture: the streams that take part and what their next work has to wait for.
struct Capture {
  std::vector<GraphNode> nodes;
  CUstream_st* origin = nullptr;
  std::map<CUstream_st*, std::vector<size_t>> last;
  bool broken = false;  // a call that capture forbids was made
};

}  // namespace trireme::gpusim

struct CUgraph_st {
  std::vector<trireme::gpusim::GraphNode> nodes;
};
struct CUgraphExec_st {
  std::shared_ptr<const std::vector<trireme::gpusim::GraphNode>> nodes;
  trireme::gpusim::GraphAncestors ancestors;
  int device = 0;
  trireme::gpusim::Point last_launch;  // the next one runs after it, whatever its stream
};
