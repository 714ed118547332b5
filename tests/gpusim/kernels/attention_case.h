// An attention problem on the device, and what its result should be.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/gpusim/kernels/attention.h"

struct AttentionShape {
  int q_len = 1, kv_heads = 1, group = 1;
  std::vector<int> kv_lens;  // of each sequence; at least q_len
};

// Owns the device's buffers. Pages lie in a random order; what lies behind a sequence's end was
// never written.
class AttentionCase {
 public:
  AttentionCase(const AttentionShape& shape, uint64_t seed);
  ~AttentionCase();

  const AttentionParams& params() const { return params_; }
  int batch() const { return static_cast<int>(shape_.kv_lens.size()); }
  // The largest difference of the device's output to the reference, which rounds where the kernel
  // does: the weights to bf16. NaN counts as infinite.
  double MaxError() const;
  // Twice bf16's rounding of the largest output.
  double Tolerance() const;
  // mma instructions that the tile maths asks for.
  uint64_t NumMma() const;

 private:
  void Reference();

  AttentionShape shape_;
  AttentionParams params_{};
  std::vector<void*> buffers_;
  std::vector<float> q_, k_, v_;  // k, v: [sequence][key][kv_head][dim]
  std::vector<size_t> first_key_;
  std::vector<float> expected_;
};
