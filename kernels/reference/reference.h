// Every operator of kernels/ops.h in double precision, as plain as possible: what the fast kernels
// are tested against.
//
// Inputs are the kernels' own (float, stored KV), so a difference is the kernel's rounding alone.
// Results are double and never alias the inputs.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/ops.h"
#include "runtime/base/ids.h"

namespace trireme::reference {

// y[i, n] = sum over k of x[i, k] w[n, k] + bias[n]. x: [num_tokens, cols], w: [rows, cols], y:
// [num_tokens, rows]; bias: [rows] or null.
void MatMul(const float* x, const float* w, const float* bias, int64_t num_tokens, int64_t rows,
            int64_t cols, double* y);

// x, gain, y: [n].
void RmsNorm(const float* x, const float* gain, float eps, int64_t n, double* y);
// sum: [n], x + delta in float, as the kernel stores it; y is the norm of that sum.
void AddRmsNorm(const float* x, const float* delta, const float* gain, float eps, int64_t n,
                float* sum, double* y);

double Activate(Activation act, double x);
void GatedActivation(Activation act, const float* gate, const float* up, int64_t n, double* out);

// x, y: [num_heads, head_dim].
void Rope(const RopeTable& table, int64_t position, int num_heads, int head_dim, const float* x,
          double* y);

// k, v: [num_kv_heads, head_dim]. Rounds to kv.dtype, to nearest even.
void StoreKv(const KvLayerView& kv, BlockId block, int slot, const float* k, const float* v);
// One stored element.
double KeyAt(const KvLayerView& kv, BlockId block, int slot, int kv_head, int d);
double ValueAt(const KvLayerView& kv, BlockId block, int slot, int kv_head, int d);

// All heads. q: [num_tokens, num_heads, head_dim], rows q_stride apart; out: [num_tokens,
// num_heads, head_dim], packed.
void Attention(const AttentionParams& params, const KvLayerView& kv,
               absl::Span<const BlockId> blocks, int64_t first_position, int64_t num_tokens,
               const float* q, int64_t q_stride, double* out);

}  // namespace trireme::reference
