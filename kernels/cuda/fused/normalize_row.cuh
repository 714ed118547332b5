// RMSNorm of a row by a CTA. The row stays in registers between the sum of its squares and its
// scaling, so that it is read once. A lane's vectors of four lie a CTA apart: every access of a
// warp is contiguous.
#pragma once

#include "kernels/cuda/fused/rows.h"
#include "kernels/cuda/primitives/block_sum.cuh"
#include "kernels/cuda/primitives/elements.cuh"

namespace trireme::cuda {

constexpr int kVector = 4;  // floats in 16 bytes

// How a row is cut depends on its length alone: so does the order of its sum.
template <int kVectors>  // that a thread holds
constexpr int kMaxThreads = kVectors == 2   ? 256
                            : kVectors == 4 ? 512
                                            : 1024;
static_assert(8 * kVector * kMaxThreads<8> == kMaxNormCols);

// delta(i) is vector i of what is added to x first, a float4; kAdds: there is such a thing, and the
// sum is stored. sums: shared memory as for BlockSum. x, gain, y: rows of `vectors`.
template <DType kType, bool kAdds, int kVectors, class Delta>
__device__ void NormalizeRow(float4* x, Delta delta, const float4* gain, float eps, int vectors,
                             uint2* y, float* sums) {
  float4 values[kVectors];
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = static_cast<int>(threadIdx.x + i * blockDim.x);
    float4 value = {0, 0, 0, 0};
    if (at < vectors) {
      value = x[at];
      if constexpr (kAdds) {
        const float4 more = delta(at);
        value = {value.x + more.x, value.y + more.y, value.z + more.z, value.w + more.w};
        x[at] = value;
      }
    }
    sum = fmaf(value.x, value.x, sum);
    sum = fmaf(value.y, value.y, sum);
    sum = fmaf(value.z, value.z, sum);
    sum = fmaf(value.w, value.w, sum);
    values[i] = value;
  }
  const float mean = BlockSum(sum, sums) / static_cast<float>(vectors * kVector);
  const float scale = rsqrtf(mean + eps);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = static_cast<int>(threadIdx.x + i * blockDim.x);
    if (at >= vectors) break;
    const float4 value = values[i], g = gain[at];
    y[at] = {Pack<kType>(value.x * scale * g.x, value.y * scale * g.y),
             Pack<kType>(value.z * scale * g.z, value.w * scale * g.w)};
  }
}

template <DType kType>
__device__ float4 UnpackVector(uint2 words) {
  const float2 low = Unpack<kType>(words.x), high = Unpack<kType>(words.y);
  return {low.x, low.y, high.x, high.y};
}

// Calls launch(std::integral_constant<int, kVectors>(), threads) for rows of `cols`.
template <class Launch>
void WithVectors(int64_t cols, Launch launch) {
  const auto call = [&](auto vectors) {
    const int64_t a_warp = 32 * decltype(vectors)::value * kVector;
    launch(vectors, static_cast<unsigned>((cols + a_warp - 1) / a_warp * 32));
  };
  if (cols <= 2 * kVector * kMaxThreads<2>) {
    call(std::integral_constant<int, 2>());
  } else if (cols <= 4 * kVector * kMaxThreads<4>) {
    call(std::integral_constant<int, 4>());
  } else {
    call(std::integral_constant<int, 8>());
  }
}

}  // namespace trireme::cuda
