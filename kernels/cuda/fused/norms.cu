// One CTA a row.
#include "kernels/cuda/fused/normalize_row.cuh"

namespace trireme::cuda {
namespace {

template <DType kType, bool kAdds, int kVectors>
__global__ void __launch_bounds__(kMaxThreads<kVectors>)
    NormalizeRows(float4* x, const uint2* delta, const float4* gain, float eps, int vectors,
                  uint2* y) {
  __shared__ float sums[32];
  const int64_t row = int64_t{blockIdx.x} * vectors;
  NormalizeRow<kType, kAdds, kVectors>(
      x + row, [&](int at) { return UnpackVector<kType>(delta[row + at]); }, gain, eps, vectors,
      y + row, sums);
}

template <bool kAdds>
cudaError_t Launch(DType type, float* x, const void* delta, const float* gain, float eps,
                   int64_t rows, int64_t cols, void* y, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return WithElements(type, [&](auto element) {
    WithVectors(cols, [&](auto vectors, unsigned threads) {
      NormalizeRows<decltype(element)::value, kAdds, decltype(vectors)::value>
          <<<static_cast<unsigned>(rows), threads, 0, stream>>>(
              reinterpret_cast<float4*>(x), static_cast<const uint2*>(delta),
              reinterpret_cast<const float4*>(gain), eps, static_cast<int>(cols / kVector),
              static_cast<uint2*>(y));
    });
  });
}

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
