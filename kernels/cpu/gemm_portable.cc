// Matrix products in plain C++: for CPUs without AVX2, and the readable form of what the other
// files compute.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm_layout.h"
#include "kernels/cpu/gemm_tiles.h"
#include "kernels/cpu/isa.h"

namespace trireme::cpu {
namespace {

// Rounds to the nearest integer, ties to even, for |x| < 2^22: the sum has no bits left for a
// fraction.
float RoundToInteger(float x) {
  constexpr float kMagic = 0x1.8p23f;
  return (x + kMagic) - kMagic;
}

void QuantizeActivation(const float* x, int64_t cols, ActivationBlock* out) {
  for (int64_t b = 0; b < cols / kBlock; ++b, x += kBlock) {
    uint32_t max_bits = 0;  // as integers, so that NaN is the largest of all
    for (int i = 0; i < kBlock; ++i) {
      max_bits = std::max(max_bits, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
    }
    ActivationBlock& block = out[b];
    block = {};
    block.scale = std::bit_cast<float>(max_bits) / 127.0f;
    if (max_bits >= 0x7f800000u) {  // infinite or NaN: poison
      block.scaled_sum = block.scale - block.scale;
      continue;
    }
    if (max_bits < kSmallestMaxBits) {
      block.scale = 0.0f;
      continue;
    }
    const float inverse = 1.0f / block.scale;
    for (int i = 0; i < kBlock; ++i) {
      const int q = static_cast<int>(RoundToInteger(x[i] * inverse));
      block.q[i] = static_cast<int8_t>(q);
      block.sum[i / 16] = static_cast<int16_t>(block.sum[i / 16] + q);
    }
    block.scaled_sum = block.scale * static_cast<float>(block.sum[0] + block.sum[1]);
  }
}

float LoadScale(const BlockFormat& format, const uint8_t* array, int row) {
  if (format.f32_scales) {
    float scale;
    std::memcpy(&scale, array + row * 4, sizeof(scale));
    return scale;
  }
  uint16_t half;
  std::memcpy(&half, array + row * 2, sizeof(half));
  return F16ToFloat(half);
}

// Sum over one group (16 elements) or the whole block of code * q, exact, for the 16 rows of a
// half.
template <DType kType>
void DotHalf(const uint8_t* half, const int8_t* q, int first_element, int last_element,
             int32_t* dot) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  for (int r = 0; r < kHalfRows; ++r) dot[r] = 0;
  for (int i = first_element; i < last_element; ++i) {
    const int byte = kFormat.code_bits == 4 ? i % 16 : i;
    const uint8_t* quad = half + byte / 4 * kQuadBytes + byte % 4;
    for (int r = 0; r < kHalfRows; ++r) {
      int code = quad[r * 4];
      if constexpr (kFormat.code_bits == 4) code = i < 16 ? code & 15 : code >> 4;
      if constexpr (kFormat.signed_codes) code -= (code & 128) * 2;
      dot[r] += code * q[i];
    }
  }
}

// acc[r] += the block's share of row r's dot product.
template <DType kType>
void AccumulateBlock(const uint8_t* block, const ActivationBlock& x, float* acc) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  constexpr int kGroupElements = kBlock / kFormat.groups;
  for (int h = 0; h < 2; ++h) {
    for (int g = 0; g < kFormat.groups; ++g) {
      int32_t dot[kHalfRows];
      DotHalf<kType>(block + h * kFormat.half_bytes(), x.q, g * kGroupElements,
                     (g + 1) * kGroupElements, dot);
      const int32_t sum = kFormat.groups == 2 ? x.sum[g] : x.sum[0] + x.sum[1];
      const uint8_t* scales = block + kFormat.scales_offset() + g * kFormat.scale_bytes();
      for (int r = 0; r < kHalfRows; ++r) {
        const float scale = LoadScale(kFormat, scales, h * kHalfRows + r) * x.scale;
        acc[h * kHalfRows + r] += scale * static_cast<float>(dot[r] - kFormat.zero_point * sum);
      }
    }
  }
  if constexpr (kFormat.has_min) {
    for (int r = 0; r < kPanelRows; ++r) {
      acc[r] += LoadScale(kFormat, block + kFormat.mins_offset(), r) * x.scaled_sum;
    }
  }
}

template <DType kType>
void BlockPanel(const uint8_t* panel, int64_t cols, const uint8_t* activation, float* acc) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  const auto* x = reinterpret_cast<const ActivationBlock*>(activation);
  for (int64_t b = 0; b < cols / kBlock; ++b) {
    AccumulateBlock<kType>(panel + b * kFormat.block_bytes(), x[b], acc);
  }
}

template <DType kType>
float LoadPlain(const uint8_t* panel, int64_t k, int row) {
  if constexpr (kType == DType::kF32) {
    float value;
    std::memcpy(&value, panel + (k * kPanelRows + row) * 4, sizeof(value));
    return value;
  } else {
    const int64_t at =
        kType == DType::kF16 ? k * kPanelRows + row : (k / 2 * kPanelRows + row) * 2 + k % 2;
    uint16_t bits;
    std::memcpy(&bits, panel + at * 2, sizeof(bits));
    return kType == DType::kF16 ? F16ToFloat(bits) : BF16ToFloat(bits);
  }
}

template <DType kType>
void PlainPanel(const uint8_t* panel, int64_t cols, const uint8_t* activation, float* acc) {
  const auto* x = reinterpret_cast<const float*>(activation);
  for (int64_t k = 0; k < cols; ++k) {
    for (int r = 0; r < kPanelRows; ++r) acc[r] += LoadPlain<kType>(panel, k, r) * x[k];
  }
}

struct Portable {
  template <DType kType>
  static void Multiply(const Panel& panel, const uint8_t* activations, int64_t stride,
                       int64_t num_tokens, const TileOutput& out) {
    for (int64_t i = 0; i < num_tokens; ++i) {
      float acc[kPanelRows] = {};
      if constexpr (IsQuantized(kType)) {
        BlockPanel<kType>(panel.data, panel.cols, activations + i * stride, acc);
      } else {
        PlainPanel<kType>(panel.data, panel.cols, activations + i * stride, acc);
      }
      StoreTile<kPanelRows>(out.At(i), 1, 0, acc);
    }
  }
};

}  // namespace

void FillGemmPortable(Kernels* table) {
  table->quantize_activation = QuantizeActivation;
  table->matmul = MatMul<Portable>;
}

}  // namespace trireme::cpu
