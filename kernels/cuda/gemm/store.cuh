// A CTA's part of y, from shared memory to where it belongs.
#pragma once

#include "kernels/cuda/gemm/matmul_args.h"
#include "kernels/cuda/primitives/elements.cuh"

namespace trireme::cuda {

__device__ inline void AddBias(const float* bias, int count, float (&v)[4]) {
  if (count == 4) {
    const float4 b = *reinterpret_cast<const float4*>(bias);
    v[0] += b.x, v[1] += b.y, v[2] += b.z, v[3] += b.w;
  } else {
    for (int i = 0; i < 4; ++i) {
      if (i < count) v[i] += bias[i];
    }
  }
}

template <DType kType>
__device__ void StoreRows(const MatMulArgs& p, int64_t at, int count, const float (&v)[4]) {
  if (p.f32_out) {
    auto* const y = static_cast<float*>(p.y) + at;
    if (p.aligned && count == 4) {
      *reinterpret_cast<float4*>(y) = {v[0], v[1], v[2], v[3]};
    } else {
      for (int i = 0; i < 4; ++i) {
        if (i < count) y[i] = v[i];
      }
    }
    return;
  }
  auto* const y = static_cast<uint16_t*>(p.y) + at;
  const uint32_t pairs[2] = {Pack<kType>(v[0], v[1]), Pack<kType>(v[2], v[3])};
  if (p.aligned && count == 4) {
    *reinterpret_cast<uint2*>(y) = {pairs[0], pairs[1]};
  } else {
    for (int i = 0; i < 4; ++i) {
      if (i < count) y[i] = static_cast<uint16_t>(pairs[i / 2] >> (16 * (i % 2)));
    }
  }
}

// output: [kTokens][pitch] F32, pitch = the CTA's rows + 4; what is beyond y's rows and tokens is
// not stored. Four rows of a token a lane. Lanes 4..7 of eight are four tokens on: with 16 rows a
// CTA both halves hit different banks.
template <DType kType, int kTokens, bool kBounded = true>
__device__ void StoreOutput(const MatMulArgs& p, const float* output, int pitch, int first_row,
                            int first_token, int thread, int threads) {
  const int quads = pitch / 4 - 1;
  for (int i = thread; i < kTokens * quads; i += threads) {
    const int quad = i % quads, index = i / quads;
    const int token = (index & ~7) | (index & 1) << 2 | (index >> 1 & 3);
    const int row = first_row + quad * 4, count = min(p.rows - row, 4);
    if (kBounded && (first_token + token >= p.num_tokens || count <= 0)) continue;
    const float4 sum = *reinterpret_cast<const float4*>(output + token * pitch + quad * 4);
    float v[4] = {sum.x, sum.y, sum.z, sum.w};
    if (p.bias != nullptr) AddBias(p.bias + row, count, v);
    StoreRows<kType>(p, (first_token + token) * p.y_stride + row, count, v);
  }
}

}  // namespace trireme::cuda
