// Matrix products in plain C++: for CPUs without AVX2, and the readable form of what the other
// files compute.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm_layout.h"
#include "kernels/cpu/isa.h"

namespace trireme::cpu {
namespace {

// Below this, 1 / scale would overflow; such a block is zero for all purposes.
constexpr float kSmallestMax = 0x1p-100f;

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
    const float max = std::bit_cast<float>(max_bits);
    ActivationBlock& block = out[b];
    block = {};
    block.scale = max / 127.0f;
    if (max_bits >= 0x7f800000u) {  // infinite or NaN: poison
      block.scaled_sum = block.scale - block.scale;
      continue;
    }
    if (max < kSmallestMax) {
      block.scale = 0.0f;
      continue;
    }
    const float inverse = 1.0f / block.scale;
    for (int i = 0; i < kBlock; ++i) {
      const int q = static_cast<int>(RoundToInteger(x[i] * inverse));
      block.q[i] = static_cast<int8_t>(q);
      block.sum[i / 16] += q;
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
      if constexpr (kFormat.signed_codes) code = static_cast<int8_t>(code);
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
void BlockPanel(const uint8_t* panel, int64_t cols, const void* activation, float* acc) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  const auto* x = static_cast<const ActivationBlock*>(activation);
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
void PlainPanel(const uint8_t* panel, int64_t cols, const void* activation, float* acc) {
  const auto* x = static_cast<const float*>(activation);
  for (int64_t k = 0; k < cols; ++k) {
    for (int r = 0; r < kPanelRows; ++r) acc[r] += LoadPlain<kType>(panel, k, r) * x[k];
  }
}

// One token times one panel: acc[32] += dot products.
using Panel = void (*)(const uint8_t* panel, int64_t cols, const void* activation, float* acc);

Panel PanelOf(DType type) {
  switch (type) {
    case DType::kF32:
      return PlainPanel<DType::kF32>;
    case DType::kF16:
      return PlainPanel<DType::kF16>;
    case DType::kBF16:
      return PlainPanel<DType::kBF16>;
    case DType::kQ4_0:
      return BlockPanel<DType::kQ4_0>;
    case DType::kQ4_1:
      return BlockPanel<DType::kQ4_1>;
    case DType::kQ5_0:
      return BlockPanel<DType::kQ5_0>;
    case DType::kQ5_1:
      return BlockPanel<DType::kQ5_1>;
    case DType::kQ8_0:
      return BlockPanel<DType::kQ8_0>;
    case DType::kQ4_K:
      return BlockPanel<DType::kQ4_K>;
    case DType::kQ5_K:
      return BlockPanel<DType::kQ5_K>;
    case DType::kQ6_K:
      return BlockPanel<DType::kQ6_K>;
  }
  return nullptr;
}

void MatMul(const PackedMatrix& m, const void* activations, int64_t activation_stride,
            int64_t num_tokens, const float* bias, int64_t panel_begin, int64_t panel_end, float* y,
            int64_t y_stride) {
  const Panel panel = PanelOf(m.source);
  for (int64_t p = panel_begin; p < panel_end; ++p) {
    const int64_t first = p * kPanelRows;
    const int64_t columns = std::min<int64_t>(kPanelRows, m.rows - first);
    for (int64_t i = 0; i < num_tokens; ++i) {
      float acc[kPanelRows] = {};
      panel(m.data + p * m.panel_bytes, m.cols,
            static_cast<const uint8_t*>(activations) + i * activation_stride, acc);
      float* out = y + i * y_stride + first;
      for (int64_t j = 0; j < columns; ++j) {
        out[j] = bias != nullptr ? acc[j] + bias[first + j] : acc[j];
      }
    }
  }
}

}  // namespace

void FillGemmPortable(Kernels* table) {
  table->quantize_activation = QuantizeActivation;
  table->matmul = MatMul;
}

}  // namespace trireme::cpu
