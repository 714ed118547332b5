// A sequence in a paged cache with a random block table; every slot that holds no token of it is
// NaN.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/kernels/cpu_rows/tables.h"

namespace trireme::cpu {

struct AttentionCase {
  DType dtype = DType::kF16;
  int head_dim = 64;
  int num_kv_heads = 2;
  int group = 3;  // query heads per KV head
  int block_size = 16;
  int64_t context = 100;  // tokens
  int window = 0;
  float soft_cap = 0.0f;
  bool sinks = false;

  int num_heads() const { return num_kv_heads * group; }
  int64_t row() const { return int64_t{num_heads()} * head_dim; }  // elements of a token's q or out
};

class PagedSequence {
 public:
  // Stores random keys and values through `kernels`. `placement` seeds the block table, `content`
  // everything else.
  PagedSequence(const Kernels& kernels, const AttentionCase& shape, uint64_t content = 1,
                uint64_t placement = 2);
  PagedSequence(const PagedSequence&) = delete;

  const AttentionCase& shape() const { return shape_; }
  const KvLayerView& kv() const { return kv_; }
  const AttentionParams& params() const { return params_; }
  absl::Span<const BlockId> blocks() const { return blocks_; }
  std::vector<float>& q() { return q_; }  // [context, num_heads, head_dim]
  // Stores another key and value for one token.
  void Store(int64_t position, const std::vector<float>& k, const std::vector<float>& v);

  // Output of tokens [first, first + count), heads [head_begin, head_end): [count, num_heads,
  // head_dim]. Heads that were not asked for are zero.
  std::vector<float> Attend(int64_t first, int64_t count, int head_begin, int head_end) const;
  std::vector<float> Attend(int64_t first, int64_t count) const {
    return Attend(first, count, 0, shape_.num_heads());
  }
  std::vector<double> Reference(int64_t first, int64_t count) const;
  // Bound on |Attend - Reference|.
  double Tolerance() const;

 private:
  const Kernels& kernels_;
  const AttentionCase shape_;
  std::vector<uint8_t> k_storage_, v_storage_;
  std::vector<BlockId> blocks_;
  std::vector<float> q_, sinks_;
  KvLayerView kv_;
  AttentionParams params_;
};

}  // namespace trireme::cpu
