#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cuda/gemm/layout.h"
#include "runtime/base/quant_formats.h"

namespace trireme::cuda {
namespace {

constexpr int kBlock = 32;  // columns of a scale

uint16_t Narrow(DType type, float v) {
  return type == DType::kBF16 ? FloatToBF16(v) : FloatToF16(v);
}

// Where element (row, col) of a tile's step lies: register, lane and half of mma's A operand.
struct Place {
  int k, lane, reg, half;
};
Place PlaceOf(int row, int col) {
  return {col / 16, row % 8 * 4 + col % 8 / 2, col % 16 / 8 * 2 + row / 8, col % 2};
}

// A row's step at `step`. codes: int8 or nibbles, [64].
void PutCodes(MatrixFormat format, int row, const uint8_t* codes, uint8_t* step) {
  for (int col = 0; col < kStepCols; ++col) {
    const Place at = PlaceOf(row, col);
    uint8_t* const lane = step + at.lane * 16;
    if (format == MatrixFormat::kQ8_0) {
      lane[at.k / 2 * 512 + (at.k % 2 * 2 + at.reg / 2) * 4 + at.reg % 2 + at.half * 2] =
          codes[col];
    } else {
      const int nibble = at.reg + 4 * at.half;
      lane[at.k * 4 + nibble / 2] |= static_cast<uint8_t>(codes[col] << nibble % 2 * 4);
    }
  }
}

// Blocks `first` and the next one of a row; `block` bytes are d | m | codes as the format has them.
void PackQuantizedStep(MatrixFormat format, DType source, const uint8_t* blocks, int num_blocks,
                       int row, uint8_t* step) {
  uint8_t codes[kStepCols] = {};
  for (int b = 0; b < num_blocks; ++b) {
    const uint8_t* block = blocks + b * BlockBytes(source);
    uint8_t* const scales = step + CodeBytes(format) + row % 8 * 8 + b * 4 + row / 8 * 2;
    std::memcpy(scales, block, 2);
    block += 2;
    if (format == MatrixFormat::kQ4_1) {
      std::memcpy(scales + kScaleBytes, block, 2);
      block += 2;
    }
    if (format == MatrixFormat::kQ8_0) {
      std::memcpy(codes + b * kBlock, block, kBlock);
      continue;
    }
    for (int i = 0; i < kBlock / 2; ++i) {
      codes[b * kBlock + i] = block[i] & 15;
      codes[b * kBlock + kBlock / 2 + i] = block[i] >> 4;
    }
  }
  PutCodes(format, row, codes, step);
}

void PackPlainRow(const std::vector<float>& values, DType type, int row, uint8_t* tile) {
  for (size_t col = 0; col < values.size(); ++col) {
    const Place at = PlaceOf(row, static_cast<int>(col % kStepCols));
    const uint16_t element = Narrow(type, values[col]);
    std::memcpy(tile + col / kStepCols * StepBytes(MatrixFormat::kPlain) + at.k * 512 +
                    at.lane * 16 + at.reg * 4 + at.half * 2,
                &element, 2);
  }
}

void PackQuantizedRow(MatrixFormat format, DType source, const uint8_t* blocks, int64_t cols,
                      int row, uint8_t* tile) {
  const int64_t num_blocks = cols / kBlock;
  for (int64_t b = 0; b < num_blocks; b += 2) {
    PackQuantizedStep(format, source, blocks + b * BlockBytes(source), b + 1 < num_blocks ? 2 : 1,
                      row, tile + b / 2 * StepBytes(format));
  }
}

void PackRows(DType source, const void* rows_data, DType type, int64_t cols, int64_t first_row,
              int64_t end_row, void* packed) {
  std::vector<float> values(static_cast<size_t>(cols));
  for (int64_t row = first_row; row < end_row; ++row) {
    DequantizeRow(source, static_cast<const uint8_t*>(rows_data) + row * RowBytes(source, cols),
                  cols, values.data());
    auto* const to = static_cast<uint16_t*>(packed) + row * cols;
    for (int64_t c = 0; c < cols; ++c) to[c] = Narrow(type, values[static_cast<size_t>(c)]);
  }
}

}  // namespace

MatrixFormat FormatOf(DType source) {
  switch (source) {
    case DType::kQ8_0:
      return MatrixFormat::kQ8_0;
    case DType::kQ4_0:
      return MatrixFormat::kQ4_0;
    case DType::kQ4_1:
      return MatrixFormat::kQ4_1;
    default:
      return MatrixFormat::kPlain;
  }
}

bool CanPack(MatrixFormat format, int64_t cols) {
  return cols > 0 && cols % (format == MatrixFormat::kPlain ? 8 : kBlock) == 0;
}

size_t PackedBytes(MatrixFormat format, int64_t rows, int64_t cols, MatrixLayout layout) {
  if (layout == MatrixLayout::kRows) return static_cast<size_t>(rows * cols) * 2;
  return static_cast<size_t>(NumTiles(rows) * NumSteps(cols)) *
         static_cast<size_t>(StepBytes(format));
}

void PackTiles(DType source, const void* rows_data, DType type, int64_t rows, int64_t cols,
               int64_t first_tile, int64_t end_tile, void* packed, MatrixLayout layout) {
  if (layout == MatrixLayout::kRows) {
    PackRows(source, rows_data, type, cols, first_tile * kTileRows,
             std::min(end_tile * kTileRows, rows), packed);
    return;
  }
  const MatrixFormat format = FormatOf(source);
  const int64_t tile_bytes = NumSteps(cols) * StepBytes(format);
  std::vector<float> values(format == MatrixFormat::kPlain ? static_cast<size_t>(cols) : 0);
  for (int64_t t = first_tile; t < end_tile; ++t) {
    uint8_t* const tile = static_cast<uint8_t*>(packed) + (t - first_tile) * tile_bytes;
    std::memset(tile, 0, static_cast<size_t>(tile_bytes));
    for (int row = 0; row < kTileRows && t * kTileRows + row < rows; ++row) {
      const uint8_t* const from =
          static_cast<const uint8_t*>(rows_data) + (t * kTileRows + row) * RowBytes(source, cols);
      if (format == MatrixFormat::kPlain) {
        DequantizeRow(source, from, cols, values.data());
        PackPlainRow(values, type, row, tile);
      } else {
        PackQuantizedRow(format, source, from, cols, row, tile);
      }
    }
  }
}

}  // namespace trireme::cuda
