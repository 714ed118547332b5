// One CTA a row; the row stays in registers between the sum of its squares and its scaling, so that
// it is read once. A lane's vectors of four lie a CTA apart: every access of a warp is contiguous.
#include "kernels/cuda/fused/rows.h"
#include "kernels/cuda/primitives/block_sum.cuh"
#include "kernels/cuda/primitives/elements.cuh"

namespace trireme::cuda {
namespace {

constexpr int kVector = 4;  // floats in 16 bytes

// How a row is cut depends on its length alone: so does the order of its sum.
template <int kVectors>  // that a thread holds
constexpr int kMaxThreads = kVectors == 2   ? 256
                            : kVectors == 4 ? 512
                                            : 1024;

template <DType kType, bool kAdds, int kVectors>
__global__ void __launch_bounds__(kMaxThreads<kVectors>)
    NormalizeRow(float* x, const uint2* delta, const float4* gain, float eps, int cols, uint2* y) {
  __shared__ float sums[32];
  const int vectors = cols / kVector;
  float4* row = reinterpret_cast<float4*>(x) + int64_t{blockIdx.x} * vectors;
  delta += int64_t{blockIdx.x} * vectors;
  y += int64_t{blockIdx.x} * vectors;

  float4 values[kVectors];
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = static_cast<int>(threadIdx.x + i * blockDim.x);
    float4 value = {0, 0, 0, 0};
    if (at < vectors) {
      value = row[at];
      if constexpr (kAdds) {
        const uint2 words = delta[at];
        const float2 low = Unpack<kType>(words.x), high = Unpack<kType>(words.y);
        value = {value.x + low.x, value.y + low.y, value.z + high.x, value.w + high.y};
        row[at] = value;
      }
    }
    sum = fmaf(value.x, value.x, sum);
    sum = fmaf(value.y, value.y, sum);
    sum = fmaf(value.z, value.z, sum);
    sum = fmaf(value.w, value.w, sum);
    values[i] = value;
  }
  const float scale = rsqrtf(BlockSum(sum, sums) / static_cast<float>(cols) + eps);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = static_cast<int>(threadIdx.x + i * blockDim.x);
    if (at >= vectors) break;
    const float4 value = values[i], g = gain[at];
    y[at] = {Pack<kType>(value.x * scale * g.x, value.y * scale * g.y),
             Pack<kType>(value.z * scale * g.z, value.w * scale * g.w)};
  }
}

template <bool kAdds>
cudaError_t Launch(DType type, float* x, const void* delta, const float* gain, float eps,
                   int64_t rows, int64_t cols, void* y, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return WithElements(type, [&](auto element) {
    const auto launch = [&](auto vectors_a_thread) {
      constexpr int kVectors = decltype(vectors_a_thread)::value;
      const int64_t a_warp = 32 * kVectors * kVector;
      const auto threads = static_cast<unsigned>((cols + a_warp - 1) / a_warp * 32);
      NormalizeRow<decltype(element)::value, kAdds, kVectors>
          <<<static_cast<unsigned>(rows), threads, 0, stream>>>(
              x, static_cast<const uint2*>(delta), reinterpret_cast<const float4*>(gain), eps,
              static_cast<int>(cols), static_cast<uint2*>(y));
    };
    if (cols <= 2 * kVector * kMaxThreads<2>) {
      launch(std::integral_constant<int, 2>());
    } else if (cols <= 4 * kVector * kMaxThreads<4>) {
      launch(std::integral_constant<int, 4>());
    } else {
      launch(std::integral_constant<int, 8>());
    }
  });
}
static_assert(8 * kVector * kMaxThreads<8> == kMaxNormCols);

}  // namespace

cudaError_t RmsNorm(DType type, const float* x, const float* gain, float eps, int64_t rows,
                    int64_t cols, void* y, cudaStream_t stream) {
  return Launch<false>(type, const_cast<float*>(x), nullptr, gain, eps, rows, cols, y, stream);
}

cudaError_t AddRmsNorm(DType type, float* x, const void* delta, const float* gain, float eps,
                       int64_t rows, int64_t cols, void* y, cudaStream_t stream) {
  return Launch<true>(type, x, delta, gain, eps, rows, cols, y, stream);
}

}  // namespace trireme::cuda
