#include "server/ranks/rank_group.h"

#include <openssl/sha.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/host_port.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

absl::Status BadLeader(std::string_view leader) {
  return absl::InvalidArgumentError(
      StrCat("--leader ", Printable(leader), ": wants HOST or HOST:PORT, [ADDRESS]:PORT for IPv6"));
}

// "host", "host:8002", "[::1]:8002" -> host and port.
absl::StatusOr<std::pair<std::string, int>> SplitAddress(const std::string& text) {
  std::string host = text, port;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == text.npos) return BadLeader(text);
    host = text.substr(1, end - 1);
    port = text.substr(end + 1);
  } else if (const size_t colon = text.find(':'); colon != text.npos) {
    host = text.substr(0, colon);
    port = text.substr(colon);
  }
  int number = kDefaultLeaderPort;
  if (!port.empty()) {
    const char* const end = port.data() + port.size();
    const auto parsed = std::from_chars(port.data() + 1, end, number);
    if (port[0] != ':' || parsed.ec != std::errc() || parsed.ptr != end || number < 1 ||
        number > 65535) {
      return BadLeader(text);
    }
  }
  if (host.empty()) return BadLeader(text);
  return std::pair(host, number);
}

}  // namespace

absl::Status CheckRankGroup(int num_ranks, RankGroupOptions* options) {
  const int given =
      !options->cert_file.empty() + !options->key_file.empty() + !options->ca_file.empty();
  if (given != 0 && given != 3) {
    return absl::InvalidArgumentError("--ranks-cert, --ranks-key and --ranks-ca go together");
  }
  if (options->num_nodes == 0 && (options->node_rank >= 0 || !options->leader.empty())) {
    return absl::InvalidArgumentError(
        "--node-rank and --leader say nothing without --nnodes: give the number of nodes, too");
  }
  if (options->alone()) return absl::OkStatus();
  const int num_nodes = options->num_nodes;
  if (num_ranks % num_nodes != 0) {
    return absl::InvalidArgumentError(StrCat("--tensor-parallel-size ", num_ranks,
                                             " is the number of GPUs of all ", num_nodes,
                                             " nodes together: give a multiple of ", num_nodes,
                                             ", or --nnodes 1 if this server is to be alone"));
  }
  if (options->node_rank < 0 || options->node_rank >= num_nodes) {
    return absl::InvalidArgumentError(StrCat("--node-rank: with --nnodes ", num_nodes,
                                             " give 0 (the leader) to ", num_nodes - 1));
  }
  if (options->leader.empty()) {
    return absl::InvalidArgumentError("--leader is missing: the address of node 0, HOST:PORT");
  }
  TRIREME_ASSIGN_OR_RETURN(const auto address, SplitAddress(options->leader));
  if (given == 0 && !IsLoopback(address.first)) {
    return absl::InvalidArgumentError(
        StrCat("--leader ", Printable(options->leader),
               " is reachable from outside; give --ranks-cert, --ranks-key and --ranks-ca"));
  }
  options->leader = HostPort(address.first, address.second);
  return absl::OkStatus();
}

std::string ModelDigest(const ModelFiles& files) {
  const DecoderSpec& s = files.spec;
  const RopeSpec& r = s.rope;
  std::string text = StrCat(s.architecture, " ", s.num_layers, " ", s.hidden_size, " ", s.num_heads,
                            " ", s.num_kv_heads, " ", s.head_dim, " ", s.mlp_size, " ",
                            s.vocab_size, " ", s.max_context, " ", s.norm_eps);
  StrAppend(&text, " ", s.tied_embeddings, s.qkv_bias, s.out_bias, s.mlp_bias, " ",
            static_cast<int>(s.activation), " ", s.attention_scale, " ", s.sliding_window, " ",
            s.attention_soft_cap, " ", s.embedding_scale, " ", s.logit_scale, "\n");
  StrAppend(&text, r.theta, " ", r.rotary_dim, " ", r.interleaved, " ", static_cast<int>(r.scaling),
            " ", r.factor, " ", r.low_freq_factor, " ", r.high_freq_factor, " ",
            r.original_context);
  for (const float divisor : r.frequency_divisors) StrAppend(&text, " ", divisor);
  std::vector<std::string> names = files.checkpoint->Names();
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    const auto tensor = files.checkpoint->Find(name);
    if (!tensor.ok()) continue;  // one that has a name is there
    StrAppend(&text, "\n", name.size(), " ", name, " ", DTypeName(tensor->dtype));
    for (const int64_t size : tensor->shape) StrAppend(&text, " ", size);
  }
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

}  // namespace trireme
