// The nodes (machines, one process each) that share a model: which one this process is, and how
// they reach the leader.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "runtime/model/model_files.h"

namespace trireme {

// Where a leader listens whose address has no port.
inline constexpr int kDefaultLeaderPort = 8002;

struct RankGroupOptions {
  int num_nodes = 0;   // 0: what the environment says (group_environment.h), else 1
  int node_rank = -1;  // 0 leads and serves, the others follow it; -1: not given
  std::string leader;  // HOST[:PORT] of node 0
  // PEM. Each side shows its certificate and wants one of this authority's from the other.
  std::string cert_file, key_file, ca_file;

  bool alone() const { return num_nodes <= 1; }
  bool follows() const { return !alone() && node_rank > 0; }
};

// What the options must be to each other, with `num_ranks` devices in all. INVALID_ARGUMENT names
// the flag: an address that others can reach without certificates is one of them. Completes
// `leader` with the port.
absl::Status CheckRankGroup(int num_ranks, RankGroupOptions* options);

// SHA-256 of the spec and of the tensors' names, types and shapes: nodes must agree on it. The
// weights themselves are not read.
std::string ModelDigest(const ModelFiles& files);

}  // namespace trireme
