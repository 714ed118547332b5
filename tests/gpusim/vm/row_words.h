// Rows (row.h) of 16 bytes a lane, into and out of registers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tests/gpusim/vm/row.h"

namespace trireme::gpusim {

// A lane's 16 bytes lie side by side in a row, and 32 lanes' words in each of its registers: four
// lanes at a time are a 4 x 4 matrix, transposed.
using FourWords = uint32_t __attribute__((vector_size(16)));

inline void Transpose(FourWords m[4]) {
  const FourWords a = __builtin_shufflevector(m[0], m[1], 0, 4, 1, 5);
  const FourWords b = __builtin_shufflevector(m[0], m[1], 2, 6, 3, 7);
  const FourWords c = __builtin_shufflevector(m[2], m[3], 0, 4, 1, 5);
  const FourWords d = __builtin_shufflevector(m[2], m[3], 2, 6, 3, 7);
  m[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  m[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  m[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  m[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

inline void LoadFours(RowLanes lanes, const std::byte* row, uint32_t* const dst[4]) {
  for (uint32_t half = 0; half < 8; half += 4) {
    FourWords m[4];
    for (uint32_t i = 0; i < 4; ++i) {
      std::memcpy(&m[i], row + ((half + i) ^ lanes.swizzle) * 16, 16);
    }
    Transpose(m);
    for (uint32_t i = 0; i < 4; ++i) std::memcpy(dst[i] + lanes.first + half, &m[i], 16);
  }
}

inline void StoreFours(RowLanes lanes, std::byte* row, const uint32_t* const src[4]) {
  for (uint32_t half = 0; half < 8; half += 4) {
    FourWords m[4];
    for (uint32_t i = 0; i < 4; ++i) std::memcpy(&m[i], src[i] + lanes.first + half, 16);
    Transpose(m);
    for (uint32_t i = 0; i < 4; ++i) {
      std::memcpy(row + ((half + i) ^ lanes.swizzle) * 16, &m[i], 16);
    }
  }
}

}  // namespace trireme::gpusim
