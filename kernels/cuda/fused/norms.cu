// One CTA a row.
#include "kernels/cuda/fused/normalize_row.cuh"

namespace trireme::cuda {
namespace {

enum class Adds { kNothing, kDelta, kShares };

template <DType kType, Adds kAdds, int kVectors>
__global__ void __launch_bounds__(kMaxThreads<kVectors>)
    NormalizeRows(float4* x, const uint2* delta, int num_shares, const float4* gain, float eps,
                  int vectors, uint2* y) {
  __shared__ float sums[32];
  const int64_t row = int64_t{blockIdx.x} * vectors;
  const auto added = [&](int at) {
    float4 sum = UnpackVector<kType>(delta[row + at]);
    if constexpr (kAdds == Adds::kShares) {
      const uint2* share = delta + row + at;
      for (int i = 1; i < num_shares; ++i) {
        share += int64_t{gridDim.x} * vectors;
        const float4 more = UnpackVector<kType>(*share);
        sum = {sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w};
      }
      sum = UnpackVector<kType>({Pack<kType>(sum.x, sum.y), Pack<kType>(sum.z, sum.w)});
    }
    return sum;
  };
  NormalizeRow<kType, kAdds != Adds::kNothing, kVectors>(x + row, added, gain, eps, vectors,
                                                         y + row, sums);
}

template <Adds kAdds>
cudaError_t Launch(DType type, float* x, const void* delta, int num_shares, const float* gain,
                   float eps, int64_t rows, int64_t cols, void* y, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return WithElements(type, [&](auto element) {
    WithVectors(cols, [&](auto vectors, unsigned threads) {
      NormalizeRows<decltype(element)::value, kAdds, decltype(vectors)::value>
          <<<static_cast<unsigned>(rows), threads, 0, stream>>>(
              reinterpret_cast<float4*>(x), static_cast<const uint2*>(delta), num_shares,
              reinterpret_cast<const float4*>(gain), eps, static_cast<int>(cols / kVector),
              static_cast<uint2*>(y));
    });
  });
}

}  // namespace

cudaError_t RmsNorm(DType type, const float* x, const float* gain, float eps, int64_t rows,
                    int64_t cols, void* y, cudaStream_t stream) {
  return Launch<Adds::kNothing>(type, const_cast<float*>(x), nullptr, 0, gain, eps, rows, cols, y,
                                stream);
}

cudaError_t AddRmsNorm(DType type, float* x, const void* delta, int num_shares, const float* gain,
                       float eps, int64_t rows, int64_t cols, void* y, cudaStream_t stream) {
  const auto launch = num_shares == 1 ? Launch<Adds::kDelta> : Launch<Adds::kShares>;
  return launch(type, x, delta, num_shares, gain, eps, rows, cols, y, stream);
}

}  // namespace trireme::cuda
