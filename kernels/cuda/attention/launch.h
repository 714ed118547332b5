// What attention.cc and the kernels' files share.
#pragma once

#include "kernels/cuda/attention/attention.h"

namespace trireme::cuda {

// What a kernel knows. Rows are (query token, head of the group).
struct AttentionArguments {
  const AttentionItem* items;
  const int32_t* count;
  const uint16_t *k, *v;
  const int32_t* block_tables;
  int64_t table_stride;
  const uint16_t* q;
  int64_t q_stride;
  uint16_t* out;
  int64_t out_stride;
  float* partials;
  const float* sinks;
  int num_heads, num_kv_heads, group;
  int row_tiles;    // CTAs that share the rows of an item: 1, unless a group has more than a CTA
  int block_shift;  // log2 of block_size
  uint32_t block_rows;  // of head_dim, from a block to the next
  int window;
  float cap_scale;   // soft cap: s = tanh(q.k * scale / cap), as exponent of 2
  float scale_log2;  // of s, to an exponent of 2
};

struct AttentionLaunch {
  DType type;
  bool decode, soft_cap;
  int max_items, num_sms;
  cudaStream_t stream;
};

// One file each.
cudaError_t LaunchAttention64(const AttentionLaunch& launch, const AttentionArguments& arguments);
cudaError_t LaunchAttention96(const AttentionLaunch& launch, const AttentionArguments& arguments);
cudaError_t LaunchAttention128(const AttentionLaunch& launch, const AttentionArguments& arguments);
cudaError_t LaunchAttention256(const AttentionLaunch& launch, const AttentionArguments& arguments);
// Prefill on sm_90a.
cudaError_t LaunchHopperAttention64(const AttentionLaunch& launch,
                                    const AttentionArguments& arguments);
cudaError_t LaunchHopperAttention96(const AttentionLaunch& launch,
                                    const AttentionArguments& arguments);
cudaError_t LaunchHopperAttention128(const AttentionLaunch& launch,
                                     const AttentionArguments& arguments);
cudaError_t LaunchHopperAttention256(const AttentionLaunch& launch,
                                     const AttentionArguments& arguments);
cudaError_t LaunchMerge(const AttentionLaunch& launch, int head_dim,
                        const AttentionArguments& arguments);

}  // namespace trireme::cuda
