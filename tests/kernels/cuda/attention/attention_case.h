// Sequences with random queries, keys and values, whose attention is computed on the device as the
// steps of an engine would, and in double precision.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/attention/attention.h"

namespace trireme::cuda {

struct AttentionCaseOptions {
  DType type = DType::kBF16;
  int num_heads = 2, num_kv_heads = 1, head_dim = 64, block_size = 16;
  int window = 0;
  float soft_cap = 0.0f;
  bool sinks = false;
  float scale = 0.0f;         // 0: 1 / sqrt(head_dim)
  bool captured = false;      // runs as a graph that was captured before there was any work
  std::vector<int> contexts;  // of the sequences
  uint64_t seed = 1;
};

// What a step computes of a sequence.
struct Share {
  int sequence = 0, first_position = 0, num_tokens = 0;
};

class AttentionCase {
 public:
  explicit AttentionCase(const AttentionCaseOptions& options);

  // One step. Keys and values behind the share's last token, and everything of the cache that is no
  // sequence's, are NaN; so are blocks before the window, which the table does not name either. The
  // result's rows are the shares' tokens in order.
  std::vector<uint16_t> Run(const std::vector<Share>& shares) const;
  cudaError_t TryRun(const std::vector<Share>& shares, std::vector<uint16_t>* out) const;
  // The whole of a sequence, in steps of so many tokens.
  std::vector<uint16_t> RunInSteps(int sequence, const std::vector<int>& steps) const;

  // The largest error, of what is allowed: twice that of plain attention in float with weights and
  // result rounded to `type`, plus an ulp of the largest result. Infinite where there is a NaN.
  double Error(const std::vector<Share>& shares, const std::vector<uint16_t>& out) const;

  AttentionWork Plan(const std::vector<Share>& shares) const;
  // mma.m16n8k16 instructions of items for `warps` warps each: those of tiles that a warp sees.
  uint64_t NumMma(const std::vector<AttentionItem>& items, int warps) const;
  // wgmma instructions of prefill items on Hopper: those of tiles that a warpgroup sees.
  uint64_t NumWgmma(const std::vector<AttentionItem>& items) const;

 private:
  struct Sequence {
    std::vector<float> q;     // [context, num_heads, head_dim]
    std::vector<float> k, v;  // [context, num_kv_heads, head_dim]
    std::vector<int32_t> blocks;
  };
  // Of `keys` positions that blocks of `rows` rows see.
  uint64_t NumTiles(const std::vector<AttentionItem>& items, int item_rows, int rows,
                    int keys) const;
  AttentionParams Params(const float* sinks) const;
  std::vector<double> Plain(const Share& share) const;  // in float, rounded

  AttentionCaseOptions options_;
  std::vector<Sequence> sequences_;
  std::vector<float> sinks_;
  int num_blocks_ = 0, table_stride_ = 0;
};

}  // namespace trireme::cuda
