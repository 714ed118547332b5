#include "kernels/cuda/fused/rows.h"
#include "kernels/cuda/primitives/elements.cuh"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;

// Approximate exponentials and quotients: within 2^-17, far below the rounding to 16 bits.
template <Activation kActivation>
__device__ float Activate(float x) {
  if constexpr (kActivation == Activation::kSilu) {
    return __fdividef(x, 1.0f + __expf(-x));
  } else if constexpr (kActivation == Activation::kGelu) {
    return x * normcdff(x);
  } else {
    // 0.5 x (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
    const float cubic = fmaf(x * x * x, 0.044715f, x);
    return __fdividef(x, 1.0f + __expf(-1.5957691216f * cubic));
  }
}

// Grid: rows, then pieces of kThreads chunks.
template <DType kType, Activation kActivation>
__global__ void __launch_bounds__(kThreads) Gate(const uint4* gate_up, int chunks, uint4* out) {
  const int at = static_cast<int>(blockIdx.y * kThreads + threadIdx.x);
  if (at >= chunks) return;
  const uint4* row = gate_up + int64_t{blockIdx.x} * 2 * chunks;
  float gate[kChunkElements], up[kChunkElements];
  UnpackChunk<kType>(row[at], gate);
  UnpackChunk<kType>(row[chunks + at], up);
#pragma unroll
  for (int i = 0; i < kChunkElements; ++i) gate[i] = Activate<kActivation>(gate[i]) * up[i];
  out[int64_t{blockIdx.x} * chunks + at] = PackChunk<kType>(gate);
}

}  // namespace

cudaError_t GatedActivation(DType type, Activation activation, const void* gate_up, int64_t rows,
                            int64_t cols, void* out, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return WithElements(type, [&](auto element) {
    const int chunks = static_cast<int>(cols / kChunkElements);
    const dim3 grid(static_cast<unsigned>(rows),
                    static_cast<unsigned>((chunks + kThreads - 1) / kThreads));
    const auto launch = [&](auto act) {
      Gate<decltype(element)::value, decltype(act)::value><<<grid, kThreads, 0, stream>>>(
          static_cast<const uint4*>(gate_up), chunks, static_cast<uint4*>(out));
    };
    switch (activation) {
      case Activation::kSilu:
        return launch(std::integral_constant<Activation, Activation::kSilu>());
      case Activation::kGeluTanh:
        return launch(std::integral_constant<Activation, Activation::kGeluTanh>());
      case Activation::kGelu:
        return launch(std::integral_constant<Activation, Activation::kGelu>());
    }
  });
}

}  // namespace trireme::cuda
