// Test weights in the file's formats, with the values they stand for.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "runtime/base/dtype.h"

namespace trireme::cpu {

struct QuantizedMatrix {
  DType type = DType::kF32;
  int64_t rows = 0, cols = 0;
  std::vector<uint8_t> bytes;  // rows one after the other
  std::vector<float> values;   // [rows, cols], dequantised
  double magnitude = 0;        // bound on |scale * code| + |min| of every element

  int64_t row_bytes() const { return RowBytes(type, cols); }
};

// Random codes; scales around 1/64 and, for K-quants, random six-bit factors.
QuantizedMatrix RandomMatrix(DType type, int64_t rows, int64_t cols, std::mt19937* random);

// Whole-number values with unit scales. pattern 0: all codes at their maximum, 1: all at their
// minimum, 2: alternating, 3: random.
QuantizedMatrix ExtremeMatrix(DType type, int64_t rows, int64_t cols, int pattern,
                              std::mt19937* random);

}  // namespace trireme::cpu
