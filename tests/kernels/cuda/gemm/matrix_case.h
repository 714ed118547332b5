// A matrix product on the device, beside the reference.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "kernels/cuda/gemm/tile.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cpu/quantized_matrix.h"
#include "tests/kernels/cuda/device_memory.h"

namespace trireme::cuda {

using cpu::QuantizedMatrix;

// Weights as the device has them. Packed in two parts, from a source without alignment.
class DeviceMatrix {
 public:
  DeviceMatrix(const QuantizedMatrix& w, DType type, const std::vector<float>& bias = {},
               MatrixLayout layout = MatrixLayout::kFragments)
      : bias_(bias) {
    const MatrixFormat format = FormatOf(w.type);
    EXPECT_TRUE(CanPack(format, w.cols));
    std::vector<uint8_t> packed(PackedBytes(format, w.rows, w.cols, layout), 0xee);
    std::vector<uint8_t> source(w.bytes.size() + 1);
    std::memcpy(source.data() + 1, w.bytes.data(), w.bytes.size());
    const int64_t tiles = (w.rows + kTileRows - 1) / kTileRows;
    PackTiles(w.type, source.data() + 1, type, w.rows, w.cols, tiles / 2, tiles,
              packed.data() + PackedBytes(format, tiles / 2 * kTileRows, w.cols, layout), layout);
    PackTiles(w.type, source.data() + 1, type, w.rows, w.cols, 0, tiles / 2, packed.data(), layout);
    data_ = std::make_unique<DeviceArray<uint8_t>>(packed);
    matrix_ = {.format = format,
               .layout = layout,
               .type = type,
               .rows = w.rows,
               .cols = w.cols,
               .data = data_->get(),
               .bias = bias.empty() ? nullptr : bias_.get()};
  }
  const PackedMatrix& get() const { return matrix_; }

 private:
  DeviceArray<float> bias_;
  std::unique_ptr<DeviceArray<uint8_t>> data_;
  PackedMatrix matrix_;
};

// What is behind row t of y; kernels leave it alone.
inline constexpr uint16_t kUntouched = 0x1234;

struct Output {
  bool f32 = true;
  int64_t y_stride = 0;  // 0: rows
  MatMulTile tile{};     // tokens 0: the product's choice
};

// y [num_tokens, rows] for x [num_tokens, cols] of `type`.
inline std::vector<float> Multiply(const DeviceMatrix& w, const std::vector<uint16_t>& x,
                                   const Output& out = {}) {
  const PackedMatrix& m = w.get();
  const int64_t num_tokens = static_cast<int64_t>(x.size()) / m.cols;
  const int64_t stride = out.y_stride == 0 ? m.rows : out.y_stride, halves = out.f32 ? 2 : 1;
  DeviceArray<uint16_t> on_device(x);
  DeviceArray<uint16_t> y(
      std::vector<uint16_t>(static_cast<size_t>(num_tokens * stride * halves), kUntouched));
  if (out.tile.tokens == 0) {
    Check(MatMul(m, on_device.get(), num_tokens, out.f32, y.get(), stride, nullptr));
  } else {
    Check(MatMulTiled(m, on_device.get(), num_tokens, out.f32, y.get(), stride, out.tile, nullptr));
  }
  Check(cudaDeviceSynchronize());
  const std::vector<uint16_t> raw = y.Read();
  std::vector<float> values;
  for (int64_t t = 0; t < num_tokens; ++t) {
    const uint16_t* const row = raw.data() + t * stride * halves;
    for (int64_t r = 0; r < m.rows; ++r) {
      float wide;
      std::memcpy(&wide, row + r * 2, out.f32 ? 4 : 0);
      values.push_back(out.f32                  ? wide
                       : m.type == DType::kBF16 ? BF16ToFloat(row[r])
                                                : F16ToFloat(row[r]));
    }
    for (int64_t i = m.rows * halves; i < stride * halves; ++i) EXPECT_EQ(row[i], kUntouched);
  }
  return values;
}

inline std::vector<double> Reference(const QuantizedMatrix& w, DType type,
                                     const std::vector<float>& x,
                                     const std::vector<float>& bias = {}) {
  // Plain weights are what `type` makes of them.
  const std::vector<float> values = IsQuantized(w.type) && FormatOf(w.type) != MatrixFormat::kPlain
                                        ? w.values
                                        : Widen(type, Narrow(type, w.values));
  const int64_t num_tokens = static_cast<int64_t>(x.size()) / w.cols;
  std::vector<double> y(static_cast<size_t>(num_tokens * w.rows));
  reference::MatMul(x.data(), values.data(), bias.empty() ? nullptr : bias.data(), num_tokens,
                    w.rows, w.cols, y.data());
  return y;
}

inline std::vector<float> WholeNumbers(size_t size, int bound, std::mt19937* random) {
  std::uniform_int_distribution<int> uniform(-bound, bound);
  std::vector<float> values(size);
  for (float& v : values) v = static_cast<float>(uniform(*random));
  return values;
}
inline std::vector<float> Uniform(size_t size, std::mt19937* random) {
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(size);
  for (float& v : values) v = uniform(*random);
  return values;
}

// Whole numbers as weights of any source.
inline QuantizedMatrix WholeMatrix(DType source, int64_t rows, int64_t cols, std::mt19937* random) {
  if (IsQuantized(source)) return cpu::ExtremeMatrix(source, rows, cols, 3, random);
  QuantizedMatrix w{.type = source, .rows = rows, .cols = cols, .bytes = {}, .values = {}};
  w.values = WholeNumbers(static_cast<size_t>(rows * cols), 8, random);
  w.bytes.resize(static_cast<size_t>(rows * w.row_bytes()));
  for (size_t i = 0; i < w.values.size(); ++i) {
    const uint16_t narrow =
        source == DType::kBF16 ? FloatToBF16(w.values[i]) : FloatToF16(w.values[i]);
    if (source == DType::kF32) {
      std::memcpy(&w.bytes[i * 4], &w.values[i], 4);
    } else {
      std::memcpy(&w.bytes[i * 2], &narrow, 2);
    }
  }
  return w;
}

}  // namespace trireme::cuda
