// Operators that work on one row of activations at a time: norms, rotary embedding with the KV
// write, gated activation, gathering of rows. Contracts: kernels/ops.h; batch.h for what all share.
//
// One order of summation for a row, whatever the number of rows: batch invariant.
#pragma once

#include <cmath>

#include "kernels/cuda/batch.h"

namespace trireme::cuda {

// x: [rows, cols] F32, gain: [cols] F32, y: [rows, cols] of `type`. cols: a multiple of 8, at most
// kMaxNormCols.
inline constexpr int64_t kMaxNormCols = 32768;
cudaError_t RmsNorm(DType type, const float* x, const float* gain, float eps, int64_t rows,
                    int64_t cols, void* y, cudaStream_t stream);
// x += delta first; delta: [num_shares, rows, cols] of `type`, the shares to be summed in their
// order, in F32, and the sum rounded to `type`.
cudaError_t AddRmsNorm(DType type, float* x, const void* delta, int num_shares, const float* gain,
                       float eps, int64_t rows, int64_t cols, void* y, cudaStream_t stream);

// A RopeTable for the device. The fraction of a revolution at a position is the low half of the
// product position * turns: exact for any position, and sincospi needs no range reduction.
struct DeviceRope {
  int rotary_dim = 0;  // as in RopeTable
  bool interleaved = false;
  const uint64_t* turns = nullptr;  // [rotary_dim / 2] TurnsOf
  float magnitude = 1.0f;
};
// Host side: revolutions a position, inverse_frequency / (2 pi), in units of 2^-64.
inline uint64_t TurnsOf(float inverse_frequency) {
  const double turns = inverse_frequency / 6.283185307179586476925;
  return static_cast<uint64_t>((turns - std::floor(turns)) * 0x1p64);
}

// Gains of the norm of each head of q and k before they are rotated (QK norm, as Qwen 3 has it);
// both or neither.
struct QkNorm {
  const float* q_gain = nullptr;  // [head_dim]
  const float* k_gain = nullptr;  // [head_dim]
  float eps = 0.0f;
};

// qkv: [num_tokens, (num_heads + 2 num_kv_heads) * head_dim] of `type`. Normalises (where asked)
// and rotates q in place; k, treated alike, and v are stored to the slots of their tokens only.
// head_dim: a multiple of 8, at most 256. A token at position -1 stores nothing, its q stays.
cudaError_t RopeAndStoreKv(DType type, const DeviceRope& rope, const QkNorm& norm, int num_heads,
                           const KvLayerView& kv, const Batch& batch, void* qkv,
                           cudaStream_t stream);

// gate_up: [rows, 2 cols], out: [rows, cols], both of `type`; cols: a multiple of 8.
cudaError_t GatedActivation(DType type, Activation activation, const void* gate_up, int64_t rows,
                            int64_t cols, void* out, cudaStream_t stream);

// y[i] = x[indices[i]]; rows of row_bytes, a multiple of 16.
cudaError_t GatherRows(const void* x, const int32_t* indices, int64_t rows, int64_t row_bytes,
                       void* y, cudaStream_t stream);

}  // namespace trireme::cuda
