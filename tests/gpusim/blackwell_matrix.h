// Operands of kernels/blackwell_gemm.cu: random elements as they lie in memory, and their values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "tests/gpusim/vm/fp8.h"
#include "tests/gpusim/vm/numbers.h"
#include "tests/gpusim/vm/tensor_map.h"

namespace trireme::gpusim {

// Elements in memory, and their values.
struct GemmMatrix {
  std::vector<uint8_t> bytes;
  std::vector<uint8_t> scales;  // as the kernel wants them
  std::vector<double> values;   // [rows][k]
};

inline constexpr int kLine = 128;  // bytes of K in a stage

struct GemmKind {
  const char* kernel;
  int bits;  // of an element
  TensorType type;
};
inline const GemmKind kBf16{"BlackwellGemmBf16", 16, TensorType::kBf16};
inline const GemmKind kE4m3{"BlackwellGemmE4m3", 8, TensorType::kU8};
inline const GemmKind kNvf4{"BlackwellGemmNvf4", 4, TensorType::kU8};

// Byte of the scale of 16 elements: tiles of 128 rows and 64 elements are 32 x 4 x 4 bytes, by row
// % 32, row / 32 % 4, block.
inline size_t ScaleAt(int row, int block, int lines) {
  const int operations = lines * 4, operation = block / 4;
  return (static_cast<size_t>(row / 128) * static_cast<size_t>(operations) +
          static_cast<size_t>(operation)) *
             512 +
         static_cast<size_t>(row % 32 * 16 + row / 32 % 4 * 4 + block % 4);
}

inline GemmMatrix RandomMatrix(const GemmKind& kind, int rows, int k, std::mt19937* random) {
  GemmMatrix m;
  std::normal_distribution<float> normal;
  const int row_bytes = k * kind.bits / 8, lines = (row_bytes + kLine - 1) / kLine;
  m.bytes.resize(static_cast<size_t>(rows * row_bytes));
  m.values.resize(static_cast<size_t>(rows * k));
  if (kind.bits == 4) {
    m.scales.resize(static_cast<size_t>((rows + 127) / 128 * lines * 4) * 512);
    for (uint8_t& scale : m.scales) scale = static_cast<uint8_t>(0x28 + (*random)() % 32);
  }
  for (int row = 0; row < rows; ++row) {
    for (int i = 0; i < k; ++i) {
      double& value = m.values[static_cast<size_t>(row * k + i)];
      uint8_t* const at = &m.bytes[static_cast<size_t>(row * row_bytes + i * kind.bits / 8)];
      if (kind.bits == 16) {
        const uint16_t bits = ToBf16(normal(*random));
        std::memcpy(at, &bits, 2);
        value = FromBf16(bits);
      } else if (kind.bits == 8) {
        *at = static_cast<uint8_t>((*random)() % 0x60 | ((*random)() & 0x80));
        value = FromE4m3(*at);
      } else {
        const int bits = static_cast<int>((*random)() % 16);
        *at = static_cast<uint8_t>(*at | bits << 4 * (i % 2));
        value = double{FromE2m1(bits)} * double{FromUe4m3(m.scales[ScaleAt(row, i / 16, lines)])};
      }
    }
  }
  return m;
}

}  // namespace trireme::gpusim
