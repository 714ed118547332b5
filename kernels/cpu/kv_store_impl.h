// Storing keys and values into their blocks (keys transposed), over the vector of one instruction
// set.
#pragma once

#include "kernels/cpu/attention_product.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd.h"

namespace trireme::cpu {
namespace {

template <class T>
void StoreKvAs(const KvLayerView& kv, BlockId block, int slot, const float* k, const float* v) {
  for (int h = 0; h < kv.num_kv_heads; ++h) {
    const int64_t head_index = int64_t{block} * kv.num_kv_heads + h;
    const int64_t offset = head_index * kv.block_size * kv.head_dim;
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

}  // namespace
}  // namespace trireme::cpu
