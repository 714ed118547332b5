// Paged attention at a shape, ready to be called.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/attention/attention.h"
#include "tests/bench/gpu/measure.h"

namespace trireme::bench {

// Sequences that compute `tokens` each, the last of a context of `context` tokens.
struct AttentionShape {
  int sequences = 1, tokens = 1;
  int64_t context = 1;
  int num_heads = 32, num_kv_heads = 8, head_dim = 128;
};

class AttentionCall {
 public:
  explicit AttentionCall(const AttentionShape& shape);
  void operator()() const;
  double flops() const;
  double bytes() const;  // of K and V, each once, and of q and out
  // The first token's output.
  std::vector<uint16_t> Output() const;

 private:
  static constexpr int kBlockSize = 16;
  const AttentionShape shape_;
  const int64_t blocks_, tokens_;  // of a sequence, of all
  const cuda::AttentionWork work_;
  Memory k_, v_, q_, out_, tables_, counts_, prefill_, decode_, merge_, partials_;
};

}  // namespace trireme::bench
