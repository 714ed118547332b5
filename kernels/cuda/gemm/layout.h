// How a packed matrix lies in memory. Row tiles of 16 rows follow each other; a tile is a chain of
// steps of 64 columns, and a step is what one warp multiplies: codes, then scales.
//
//   codes    pieces of 32 lanes x 16 bytes: lane 4 g + c holds rows g and g + 8 of the tile, as
//            mma's A operand wants them. Columns of register r of k step j (16 columns each):
//            16 j + 8 (r / 2) + 2 c and the next one; rows g + 8 (r % 2).
//              kPlain  piece j = k step j, word r = register r
//              kQ8_0   piece j / 2; words 2 (j % 2) + r / 2; bytes r % 2 and r % 2 + 2
//              4 bits  word j; nibbles r and r + 4
//   scales   [8] of g: F16 d of row g and of row g + 8 for columns 0..31, the same for 32..63
//   minima   kQ4_1: the same of m
//
// What lies beyond the last row or column is zero.
#pragma once

#include "kernels/cuda/gemm/matmul.h"

namespace trireme::cuda {

inline constexpr int kStepCols = 64;
inline constexpr int kScaleBytes = 64;

constexpr int CodeBytes(MatrixFormat format) {
  return format == MatrixFormat::kPlain ? 2048 : format == MatrixFormat::kQ8_0 ? 1024 : 512;
}
constexpr int StepBytes(MatrixFormat format) {
  const int scales = format == MatrixFormat::kPlain ? 0 : format == MatrixFormat::kQ4_1 ? 2 : 1;
  return CodeBytes(format) + scales * kScaleBytes;
}
// The same for device code.
template <MatrixFormat kFormat>
inline constexpr int kCodeBytesOf = CodeBytes(kFormat);
template <MatrixFormat kFormat>
inline constexpr int kStepBytesOf = StepBytes(kFormat);

constexpr int64_t NumSteps(int64_t cols) { return (cols + kStepCols - 1) / kStepCols; }
constexpr int64_t NumTiles(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }

}  // namespace trireme::cuda
