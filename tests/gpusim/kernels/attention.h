// Paged attention forward (FlashAttention-2): causal, grouped queries, bf16 with fp32 accumulation.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

inline constexpr int kHeadDim = 128;
inline constexpr int kPageTokens = 16;
inline constexpr int kRowTile = 64;  // rows (token x head of a group) of a CTA
inline constexpr int kKeyTile = 64;  // keys of one step
inline constexpr int kAttentionThreads = 128;
// Dynamic, of a CTA: its queries, and keys and values of two steps.
inline constexpr unsigned kAttentionSharedBytes = (kRowTile + 4 * kKeyTile) * kHeadDim * 2;

struct AttentionParams {
  const __nv_bfloat16* q;        // [batch, q_len, kv_heads * group, kHeadDim]
  const __nv_bfloat16* k_cache;  // [pages, kPageTokens, kv_heads, kHeadDim]
  const __nv_bfloat16* v_cache;
  __nv_bfloat16* out;     // as q
  const int* page_table;  // [batch, max_pages]
  const int* kv_lens;     // [batch]: keys, of which the last q_len are the queries' own
  int q_len, kv_heads, group, max_pages;
  float scale_log2;  // 1 / sqrt(kHeadDim) * log2(e)
};

// What is wrong with the kernel, on purpose.
enum class AttentionMutant {
  kNone,
  kNoBarrierAfterWait,   // other threads' copies may not have landed
  kNoBarrierBeforeLoad,  // the next copies land where other warps still read
  kLaxWait,              // wait_group leaves the tile in flight
  kNoCommit,             // the copies belong to no group
  kNoSwizzle,
  kWrongStageStride,  // the second stage overlaps the first
  kWarpSkipsBarrier,  // three warps wait for a fourth
  kMaskOffByOne,
  kNoZeroFill,       // keys behind the end are read
  kNoRowBound,       // rows behind the end are written
  kPageOutOfBounds,  // the table's next entry
  kUninitialisedAccumulator,
  kMisalignedCopy,
  kNoWarpBarrier,     // lanes read what their neighbours just wrote
  kShuffleMask,       // names lanes that take no part
  kNoRescale,         // the old accumulator keeps its old maximum
  kHalfReduction,     // a row's sum over two of its four lanes
  kSwappedFragments,  // ldmatrix in the wrong order
  kTooLittleShared,   // the launch gives less than the kernel uses
  kNoCausalTile,      // the last tile of keys is left out
};

cudaError_t LaunchAttention(const AttentionParams& params, int batch, cudaStream_t stream);
cudaError_t LaunchAttentionMutant(const AttentionParams& params, int batch, AttentionMutant mutant,
                                  cudaStream_t stream);
