#include "tests/kernels/cpu/quantized_matrix.h"

#include <cmath>
#include <cstring>

#include "runtime/base/quant_formats.h"

namespace trireme::cpu {
namespace {

void PutF16(uint8_t* p, float value) {
  const uint16_t bits = FloatToF16(value);
  std::memcpy(p, &bits, 2);
}

bool HasMin(DType type) {
  return type == DType::kQ4_1 || type == DType::kQ5_1 || type == DType::kQ4_K ||
         type == DType::kQ5_K;
}

// Sets a block's F16 scale and, if it has one, minimum.
void SetScales(DType type, float scale, float min, uint8_t* block) {
  if (type == DType::kQ6_K) return PutF16(block + 208, scale);
  PutF16(block, scale);
  if (HasMin(type)) PutF16(block + 2, min);
}

// The 6-bit or 8-bit factors of a K block.
uint8_t* Factors(DType type, uint8_t* block, int* count) {
  *count = type == DType::kQ6_K ? 16 : 12;
  return block + (type == DType::kQ6_K ? 192 : 4);
}

QuantizedMatrix Empty(DType type, int64_t rows, int64_t cols) {
  QuantizedMatrix w;
  w.type = type;
  w.rows = rows;
  w.cols = cols;
  w.bytes.resize(rows * RowBytes(type, cols));
  w.values.resize(rows * cols);
  return w;
}

void FillValues(QuantizedMatrix* w) {
  for (int64_t r = 0; r < w->rows; ++r) {
    DequantizeRow(w->type, w->bytes.data() + r * w->row_bytes(), w->cols,
                  w->values.data() + r * w->cols);
  }
}

QuantizedMatrix RandomPlain(DType type, int64_t rows, int64_t cols, std::mt19937* random) {
  QuantizedMatrix w = Empty(type, rows, cols);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  const int64_t size = BlockBytes(type);
  for (size_t i = 0; i < w.bytes.size(); i += size) {
    const float value = uniform(*random);
    const uint16_t half = type == DType::kF16 ? FloatToF16(value) : FloatToBF16(value);
    if (type == DType::kF32) {
      std::memcpy(&w.bytes[i], &value, 4);
    } else {
      std::memcpy(&w.bytes[i], &half, 2);
    }
  }
  w.magnitude = 1.0;
  FillValues(&w);
  return w;
}

}  // namespace

QuantizedMatrix RandomMatrix(DType type, int64_t rows, int64_t cols, std::mt19937* random) {
  if (!IsQuantized(type)) return RandomPlain(type, rows, cols, random);
  QuantizedMatrix w = Empty(type, rows, cols);
  for (uint8_t& byte : w.bytes) byte = static_cast<uint8_t>((*random)() >> 7);
  std::uniform_real_distribution<float> uniform(-1.0f / 64, 1.0f / 64);
  for (size_t i = 0; i < w.bytes.size(); i += BlockBytes(type)) {
    SetScales(type, uniform(*random), uniform(*random), &w.bytes[i]);
  }
  FillValues(&w);
  const double factor = BlockSize(type) == 256 ? (type == DType::kQ6_K ? 128 : 63) : 1;
  w.magnitude = factor * (128.0 + 1.0) / 64;
  return w;
}

QuantizedMatrix ExtremeMatrix(DType type, int64_t rows, int64_t cols, int pattern,
                              std::mt19937* random) {
  QuantizedMatrix w = Empty(type, rows, cols);
  for (size_t i = 0; i < w.bytes.size(); ++i) {
    const uint8_t low = type == DType::kQ8_0 ? 0x80 : 0x00,
                  high = type == DType::kQ8_0 ? 0x7f : 0xff;
    const uint8_t alternating = i % 2 == 0 ? low : high;
    const uint8_t any = static_cast<uint8_t>((*random)() >> 7);
    w.bytes[i] = pattern == 0 ? high : pattern == 1 ? low : pattern == 2 ? alternating : any;
  }
  for (size_t i = 0; i < w.bytes.size(); i += BlockBytes(type)) {
    uint8_t* block = &w.bytes[i];
    SetScales(type, 1.0f, -3.0f, block);
    if (BlockSize(type) != 256) continue;
    int count;
    uint8_t* factors = Factors(type, block, &count);
    for (int f = 0; f < count; ++f) factors[f] = static_cast<uint8_t>(1 + f % 3);
  }
  FillValues(&w);
  return w;
}

}  // namespace trireme::cpu
