// Element types of tensors, including the block-quantised types of GGUF (ggml), and their storage
// size.
//
// Quantised types store `BlockSize` consecutive elements of a row in `BlockBytes` bytes; rows are
// whole blocks. Bit layouts: the GGUF specification and ggml's quantisation formats; decoded in
// runtime/base/quant_formats.h.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace trireme {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K
};

constexpr std::string_view DTypeName(DType t) {
  constexpr std::string_view names[] = {"F32",  "F16",  "BF16", "Q4_0", "Q4_1", "Q5_0",
                                        "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"};
  return names[static_cast<int>(t)];
}

// Elements per storage block (1 for plain types).
constexpr int64_t BlockSize(DType t) {
  constexpr int64_t sizes[] = {1, 1, 1, 32, 32, 32, 32, 32, 256, 256, 256};
  return sizes[static_cast<int>(t)];
}

// Bytes per storage block.
constexpr int64_t BlockBytes(DType t) {
  constexpr int64_t bytes[] = {4, 2, 2, 18, 20, 22, 24, 34, 144, 176, 210};
  return bytes[static_cast<int>(t)];
}

constexpr bool IsQuantized(DType t) { return BlockSize(t) > 1; }

// Bytes of a row of `num_elements`, which must be a multiple of BlockSize(t).
constexpr int64_t RowBytes(DType t, int64_t num_elements) {
  return num_elements / BlockSize(t) * BlockBytes(t);
}

// Scalar conversions, round to nearest even. Exact for every value that the target holds; NaN stays
// NaN.
inline float BF16ToFloat(uint16_t h) {
  return std::bit_cast<float>(static_cast<uint32_t>(h) << 16);
}
inline uint16_t FloatToBF16(float f) {
  uint32_t u = std::bit_cast<uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40);  // quiet NaN
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}
float F16ToFloat(uint16_t h);
uint16_t FloatToF16(float f);

}  // namespace trireme
