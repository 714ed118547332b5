// The 16-bit element types of activations, loaded and stored many at a time.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/primitives/ptx.cuh"
#include "runtime/base/dtype.h"

namespace trireme::cuda {

// Two elements of kType in a word, the first in its lower half.
template <DType kType>
__device__ inline float2 Unpack(uint32_t word) {
  if constexpr (kType == DType::kBF16) {
    return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)};
  } else {
    const __half2_raw raw{static_cast<uint16_t>(word), static_cast<uint16_t>(word >> 16)};
    return __half22float2(raw);
  }
}

// To nearest even.
template <DType kType>
__device__ inline uint32_t Pack(float first, float second) {
  if constexpr (kType == DType::kBF16) return ptx::PackBf16(first, second);
  uint32_t packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(second), "f"(first));
  return packed;
}

// 16 bytes: eight elements of a row.
constexpr int kChunkElements = 8;
template <DType kType>
__device__ inline void UnpackChunk(uint4 chunk, float (&x)[kChunkElements]) {
  const uint32_t words[] = {chunk.x, chunk.y, chunk.z, chunk.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = Unpack<kType>(words[i]);
    x[2 * i] = pair.x;
    x[2 * i + 1] = pair.y;
  }
}
template <DType kType>
__device__ inline uint4 PackChunk(const float (&x)[kChunkElements]) {
  return {Pack<kType>(x[0], x[1]), Pack<kType>(x[2], x[3]), Pack<kType>(x[4], x[5]),
          Pack<kType>(x[6], x[7])};
}

// Calls launch(std::integral_constant<DType, type>()).
template <class Launch>
cudaError_t WithElements(DType type, Launch launch) {
  switch (type) {
    case DType::kBF16:
      launch(std::integral_constant<DType, DType::kBF16>());
      break;
    case DType::kF16:
      launch(std::integral_constant<DType, DType::kF16>());
      break;
    default:
      return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

}  // namespace trireme::cuda
