// Attention and the paged KV store of kernels/ops.h over the vector of one instruction set:
// included by attention_<isa>.cc after simd_<isa>.h.
//
// Rows are (query token, query head) pairs that share one KV head. Up to kMaxRows of them walk the
// KV in tiles of kTile positions, counted from position 0, with a running maximum and sum per row
// (online softmax):
//
//     scores  S[row, position] += q[row, d] * K[d, position]      K lies transposed in its blocks
//     softmax S = exp(S - max), rescaling the row's accumulator when the maximum grows
//     values  A[row, d] += S[row, position] * V[position, d]
//
// Both products are one micro-kernel (mini-GEMM): an element of the result is a single chain of
// multiply-adds in ascending order of the inner index, over exactly the positions that the row
// sees. So a row's bits depend neither on the rows computed beside it nor on how the tile was
// brought in:
//
//   - in place, when the rows fit one micro-kernel (decode): elements are widened as they are
//   loaded;
//   - gathered to float scratch, when many rows share the tile (prefill) or the shape is odd:
//   widened once.
#pragma once

#include "kernels/cpu/attention_rows.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd.h"

namespace trireme::cpu {
namespace {

void Attention(const AttentionParams& params, const KvLayerView& kv,
               absl::Span<const BlockId> blocks, int64_t first_position, int64_t num_tokens,
               int head_begin, int head_end, const float* q, int64_t q_stride, float* out,
               int64_t out_stride, void* scratch_memory) {
  const Io io{q, q_stride, out, out_stride};
  const Scratch scratch(scratch_memory, kv.head_dim);
  const auto attend = [&](auto element) {
    AttendHeads<decltype(element)>(params, kv, blocks.data(), first_position, num_tokens,
                                   head_begin, head_end, io, scratch);
  };
  if (kv.dtype == DType::kF32) return attend(float{});
  if (kv.dtype == DType::kBF16) return attend(BF16{});
  attend(F16{});
}

int64_t AttentionScratchBytes(const AttentionParams&, const KvLayerView& kv) {
  return Scratch::Floats(kv.head_dim) * static_cast<int64_t>(sizeof(float));
}

// ---- Storing

template <class T>
void StoreKvAs(const KvLayerView& kv, BlockId block, int slot, const float* k, const float* v) {
  for (int h = 0; h < kv.num_kv_heads; ++h) {
    const int64_t offset = block * kv.block_stride + int64_t{h} * kv.block_size * kv.head_dim;
    T* k_column = static_cast<T*>(kv.k) + offset + slot;
    T* v_row = static_cast<T*>(kv.v) + offset + int64_t{slot} * kv.head_dim;
    const float* k_head = k + int64_t{h} * kv.head_dim;
    const float* v_head = v + int64_t{h} * kv.head_dim;
    ForEachVector(kv.head_dim, [=](auto load, auto store) { store(v_row, load(v_head)); });
    for (int d = 0; d < kv.head_dim; d += kWidth) {
      const int count = static_cast<int>(Smaller(kWidth, kv.head_dim - d));
      T rounded[kWidth];
      Store(rounded, LoadPartial(k_head + d, count));
      for (int i = 0; i < count; ++i) k_column[int64_t{d + i} * kv.block_size] = rounded[i];
    }
  }
}

void StoreKv(const KvLayerView& kv, BlockId block, int slot, const float* k, const float* v) {
  if (kv.dtype == DType::kF32) return StoreKvAs<float>(kv, block, slot, k, v);
  if (kv.dtype == DType::kBF16) return StoreKvAs<BF16>(kv, block, slot, k, v);
  StoreKvAs<F16>(kv, block, slot, k, v);
}

void FillAttention(Kernels* table) {
  table->store_kv = StoreKv;
  table->attention = Attention;
  table->attention_scratch_bytes = AttentionScratchBytes;
}

}  // namespace
}  // namespace trireme::cpu
