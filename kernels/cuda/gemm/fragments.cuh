// A lane's stored codes as mma's A operand (layout.h): whole numbers, exact in either 16-bit type.
#pragma once

#include "kernels/cuda/gemm/layout.h"
#include "kernels/cuda/primitives/elements.cuh"
#include "kernels/cuda/primitives/mma.cuh"

namespace trireme::cuda {

// Registers of one k step from a word of eight nibbles q: q - 8 (kQ4_0) or q (kQ4_1). A nibble is
// put into the mantissa of 128 (bf16) or 1024 (f16), whose last bit counts 1, and that is taken off
// again.
template <MatrixFormat kFormat, DType kType>
__device__ inline void DequantizeNibbles(uint32_t word, uint32_t (&a)[4]) {
  constexpr bool kBf16 = kType == DType::kBF16, kSigned = kFormat == MatrixFormat::kQ4_0;
  constexpr uint32_t kOne = kBf16 ? 0x43004300u : 0x64006400u;
  // -136, -128; -1032, -1024
  constexpr uint32_t kMinus =
      kBf16 ? (kSigned ? 0xc308c308u : 0xc300c300u) : (kSigned ? 0xe408e408u : 0xe400e400u);
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    a[r] = ptx::AddPairs<kType>(ptx::AndOr(word >> (4 * r), 0x000f000fu, kOne), kMinus);
  }
}

// Two registers from a word of four int8.
template <DType kType>
__device__ inline void DequantizeBytes(uint32_t word, uint32_t& even, uint32_t& odd) {
  const auto pair = [](uint32_t w) {
    if constexpr (kType == DType::kBF16) {  // 128 + low seven bits, less 128 or, negative, 256
      return ptx::AddPairs<kType>(ptx::AndOr(w, 0x007f007fu, 0x43004300u),
                                  ptx::AndOr(w, 0x00800080u, 0xc300c300u));
    } else {  // 1024 + 128 + q
      return ptx::AddPairs<kType>(ptx::AndXor(w, 0x00ff00ffu, 0x64806480u), 0xe480e480u);
    }
  };
  even = pair(word);
  odd = pair(word >> 8);
}

// The two k steps of columns 32 block .. 32 block + 31, from the lane's 16 bytes (4 bits: of both
// blocks).
template <MatrixFormat kFormat, DType kType>
__device__ inline void Dequantize(const uint4& codes, int block, uint32_t (&a)[2][4]) {
  if constexpr (kFormat == MatrixFormat::kQ8_0) {
    DequantizeBytes<kType>(codes.x, a[0][0], a[0][1]);
    DequantizeBytes<kType>(codes.y, a[0][2], a[0][3]);
    DequantizeBytes<kType>(codes.z, a[1][0], a[1][1]);
    DequantizeBytes<kType>(codes.w, a[1][2], a[1][3]);
  } else {
    DequantizeNibbles<kFormat, kType>(block == 0 ? codes.x : codes.z, a[0]);
    DequantizeNibbles<kFormat, kType>(block == 0 ? codes.y : codes.w, a[1]);
  }
}

}  // namespace trireme::cuda
