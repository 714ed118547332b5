// Operands of the matrix instructions: their element types, and what lies in shared memory as
// floats. An operation takes 32 bytes along K of each row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/gpusim/vm/matrix_descriptor.h"

namespace trireme::gpusim {

enum class MatrixElement : uint8_t { kBf16, kF16, kTf32, kE4m3, kE5m2, kS8, kU8, kE2m1 };

inline int BitsOf(MatrixElement type) {
  switch (type) {
    case MatrixElement::kTf32:
      return 32;
    case MatrixElement::kBf16:
    case MatrixElement::kF16:
      return 16;
    case MatrixElement::kE2m1:
      return 4;
    default:
      return 8;
  }
}
inline int DepthOf(MatrixElement type) { return 32 * 8 / BitsOf(type); }  // elements along K
inline bool IsFp8(MatrixElement type) {
  return type == MatrixElement::kE4m3 || type == MatrixElement::kE5m2;
}

// The elements of `bytes` bytes; at most 32.
void ToFloats(MatrixElement type, const std::byte* from, int bytes, float* to);

struct SharedOperand {
  MatrixDescriptor descriptor;
  MatrixElement type = MatrixElement::kBf16;
  int rows = 0;           // of M or N
  bool mn_major = false;  // 16- and 8-bit elements only

  int per_chunk() const { return 128 / BitsOf(type); }
  // Calls f(address, row, k) for each chunk of 16 bytes: the place of its first element.
  template <typename F>
  void EachChunk(F&& f) const {
    const uint32_t n = static_cast<uint32_t>(per_chunk());
    if (mn_major) {
      for (uint32_t k = 0; k < static_cast<uint32_t>(DepthOf(type)); ++k) {
        for (uint32_t i = 0; i < static_cast<uint32_t>(rows) / n; ++i) {
          f(descriptor.MnMajor(i, k), static_cast<int>(i * n), static_cast<int>(k));
        }
      }
      return;
    }
    for (uint32_t row = 0; row < static_cast<uint32_t>(rows); ++row) {
      for (uint32_t c = 0; c < 2; ++c) {
        f(descriptor.KMajor(row, c), static_cast<int>(row), static_cast<int>(c * n));
      }
    }
  }
  std::vector<uint32_t> Chunks() const;

  // Calls put(row, k, value).
  template <typename Put>
  void Read(const std::byte* shared, Put&& put) const {
    float values[32];
    EachChunk([&](uint32_t at, int row, int k) {
      ToFloats(type, shared + at, 16, values);
      for (int i = 0; i < per_chunk(); ++i) {
        put(mn_major ? row + i : row, mn_major ? k : k + i, values[i]);
      }
    });
  }
};

}  // namespace trireme::gpusim
