// Packing: decodes the file's blocks into codes and scales, and scatters them over the panel. Bit
// layouts of the blocks: ggml's quantisation formats (runtime/base/dtype.h).
#include <algorithm>
#include <cstring>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm_layout.h"
#include "runtime/base/check.h"

namespace trireme::cpu {
namespace {

// One block of one row. Scales are kept as the panel keeps them: f16 bits or f32 bits.
struct DecodedBlock {
  uint8_t codes[kBlock];
  uint32_t scales[2];
  uint32_t min;
};

uint16_t LoadU16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

uint32_t LoadU32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

float LoadF16(const uint8_t* p) { return F16ToFloat(LoadU16(p)); }

// 16 bytes: low nibbles are elements 0..15, high nibbles 16..31.
void DecodeNibbles(const uint8_t* qs, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = qs[i] & 15;
    codes[16 + i] = qs[i] >> 4;
  }
}

// Bit i of `high` is bit 4 of code i.
void AddFifthBits(uint32_t high, uint8_t* codes) {
  for (int i = 0; i < kBlock; ++i) codes[i] |= ((high >> i) & 1) << 4;
}

// Scale and minimum number `i` of 8, six bits each, packed into 12 bytes.
void UnpackScaleAndMin(const uint8_t* packed, int i, int* scale, int* min) {
  if (i < 4) {
    *scale = packed[i] & 63;
    *min = packed[i + 4] & 63;
  } else {
    *scale = (packed[i + 4] & 15) | ((packed[i - 4] >> 6) << 4);
    *min = (packed[i + 4] >> 4) | ((packed[i] >> 6) << 4);
  }
}

void DecodeKScales(const uint8_t* super, int sub, DecodedBlock* out) {
  int scale, min;
  UnpackScaleAndMin(super + 4, sub, &scale, &min);
  out->scales[0] = std::bit_cast<uint32_t>(LoadF16(super) * static_cast<float>(scale));
  out->min = std::bit_cast<uint32_t>(-(LoadF16(super + 2) * static_cast<float>(min)));
}

// Sub-blocks 2j and 2j+1 are the low and high nibbles of the same 32 bytes.
void DecodeKNibbles(const uint8_t* qs, int sub, uint8_t* codes) {
  const uint8_t* bytes = qs + sub / 2 * kBlock;
  const int shift = sub % 2 * 4;
  for (int i = 0; i < kBlock; ++i) codes[i] = (bytes[i] >> shift) & 15;
}

void DecodeQ6K(const uint8_t* super, int sub, DecodedBlock* out) {
  const int half = sub / 4, part = sub % 4;
  const uint8_t* low = super + half * 64 + part % 2 * 32;
  const uint8_t* high = super + 128 + half * 32;
  const int low_shift = part / 2 * 4, high_shift = part * 2;
  for (int i = 0; i < kBlock; ++i) {
    out->codes[i] = ((low[i] >> low_shift) & 15) | (((high[i] >> high_shift) & 3) << 4);
  }
  const float d = LoadF16(super + 208);
  for (int g = 0; g < 2; ++g) {
    const auto scale = static_cast<int8_t>(super[192 + half * 8 + part * 2 + g]);
    out->scales[g] = std::bit_cast<uint32_t>(d * static_cast<float>(scale));
  }
}

// Block `b` (of 32 elements) of the row that starts at `row`.
template <DType kType>
void Decode(const uint8_t* row, int64_t b, DecodedBlock* out) {
  constexpr int kPerStorageBlock = BlockSize(kType) / kBlock;
  const uint8_t* p = row + b / kPerStorageBlock * BlockBytes(kType);
  const int sub = static_cast<int>(b % kPerStorageBlock);
  if constexpr (kType == DType::kQ6_K) {
    DecodeQ6K(p, sub, out);
  } else if constexpr (kType == DType::kQ4_K) {
    DecodeKScales(p, sub, out);
    DecodeKNibbles(p + 16, sub, out->codes);
  } else if constexpr (kType == DType::kQ5_K) {
    DecodeKScales(p, sub, out);
    DecodeKNibbles(p + 48, sub, out->codes);
    for (int i = 0; i < kBlock; ++i) out->codes[i] |= ((p[16 + i] >> sub) & 1) << 4;
  } else {
    constexpr bool kMin = kType == DType::kQ4_1 || kType == DType::kQ5_1;
    constexpr bool kFifthBits = kType == DType::kQ5_0 || kType == DType::kQ5_1;
    out->scales[0] = LoadU16(p);
    p += 2;
    if constexpr (kMin) out->min = LoadU16(p), p += 2;
    const uint8_t* high = p;
    if constexpr (kFifthBits) p += 4;
    if constexpr (kType == DType::kQ8_0) {
      std::memcpy(out->codes, p, kBlock);
    } else {
      DecodeNibbles(p, out->codes);
    }
    if constexpr (kFifthBits) AddFifthBits(LoadU32(high), out->codes);
  }
}

void StoreScale(const BlockFormat& format, uint8_t* array, int row, uint32_t bits) {
  std::memcpy(array + row * (format.f32_scales ? 4 : 2), &bits, format.f32_scales ? 4 : 2);
}

template <DType kType>
void PackBlockRow(const DecodedBlock& in, int row, uint8_t* block) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  uint8_t* half = block + row / kHalfRows * kFormat.half_bytes() + row % kHalfRows * 4;
  uint8_t bytes[kBlock];
  if constexpr (kFormat.code_bits == 4) {
    for (int i = 0; i < 16; ++i) bytes[i] = in.codes[i] | (in.codes[16 + i] << 4);
  } else {
    std::memcpy(bytes, in.codes, kBlock);
  }
  for (int i = 0; i < kBlock * kFormat.code_bits / 8; i += 4) {
    std::memcpy(half + i / 4 * kQuadBytes, bytes + i, 4);
  }
  for (int g = 0; g < kFormat.groups; ++g) {
    StoreScale(kFormat, block + kFormat.scales_offset() + g * kFormat.scale_bytes(), row,
               in.scales[g]);
  }
  if constexpr (kFormat.has_min) StoreScale(kFormat, block + kFormat.mins_offset(), row, in.min);
}

// rows: how many source rows the panel has; the others become zeros.
template <DType kType>
void PackBlocks(const uint8_t* source, int64_t row_bytes, int64_t rows, int64_t cols,
                uint8_t* panel) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  const int64_t num_blocks = cols / kBlock;
  if (rows < kPanelRows) std::memset(panel, 0, num_blocks * kFormat.block_bytes());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t b = 0; b < num_blocks; ++b) {
      DecodedBlock decoded;
      Decode<kType>(source + r * row_bytes, b, &decoded);
      PackBlockRow<kType>(decoded, static_cast<int>(r), panel + b * kFormat.block_bytes());
    }
  }
}

// Element k of panel row r stands at ((k / kPair) * kPanelRows + r) * kPair + k % kPair.
template <typename Element, int kPair>
void PackPlain(const uint8_t* source, int64_t row_bytes, int64_t rows, int64_t cols,
               uint8_t* panel) {
  const int64_t padded = (cols + kPair - 1) / kPair * kPair;
  if (rows < kPanelRows || padded != cols) {
    std::memset(panel, 0, padded * kPanelRows * sizeof(Element));
  }
  for (int64_t r = 0; r < rows; ++r) {
    const uint8_t* in = source + r * row_bytes;
    uint8_t* out = panel + r * kPair * sizeof(Element);
    for (int64_t k = 0; k < cols; ++k) {
      const int64_t at = k / kPair * kPanelRows * kPair + k % kPair;
      std::memcpy(out + at * sizeof(Element), in + k * sizeof(Element), sizeof(Element));
    }
  }
}

using PackPanel = void (*)(const uint8_t*, int64_t, int64_t, int64_t, uint8_t*);

PackPanel PackPanelOf(DType type) {
  switch (type) {
    case DType::kF32:
      return PackPlain<uint32_t, 1>;
    case DType::kF16:
      return PackPlain<uint16_t, 1>;
    case DType::kBF16:
      return PackPlain<uint16_t, 2>;
    case DType::kQ4_0:
      return PackBlocks<DType::kQ4_0>;
    case DType::kQ4_1:
      return PackBlocks<DType::kQ4_1>;
    case DType::kQ5_0:
      return PackBlocks<DType::kQ5_0>;
    case DType::kQ5_1:
      return PackBlocks<DType::kQ5_1>;
    case DType::kQ8_0:
      return PackBlocks<DType::kQ8_0>;
    case DType::kQ4_K:
      return PackBlocks<DType::kQ4_K>;
    case DType::kQ5_K:
      return PackBlocks<DType::kQ5_K>;
    case DType::kQ6_K:
      return PackBlocks<DType::kQ6_K>;
  }
  return nullptr;
}

float LoadScale(const BlockFormat& format, const uint8_t* array, int row) {
  return format.f32_scales ? std::bit_cast<float>(LoadU32(array + row * 4))
                           : LoadF16(array + row * 2);
}

void UnpackBlock(const BlockFormat& format, const uint8_t* block, int row, float* out) {
  const uint8_t* half = block + row / kHalfRows * format.half_bytes() + row % kHalfRows * 4;
  const uint8_t* scales = block + format.scales_offset();
  const float min = format.has_min ? LoadScale(format, block + format.mins_offset(), row) : 0.0f;
  for (int i = 0; i < kBlock; ++i) {
    const int byte = format.code_bits == 4 ? i % 16 : i;
    int code = half[byte / 4 * kQuadBytes + byte % 4];
    if (format.code_bits == 4) code = i < 16 ? code & 15 : code >> 4;
    if (format.signed_codes) code -= (code & 128) * 2;
    const int group = format.groups == 2 ? i / 16 : 0;
    const float scale = LoadScale(format, scales + group * format.scale_bytes(), row);
    const float product = scale * static_cast<float>(code - format.zero_point);
    out[i] = format.has_min ? product + min : product;
  }
}

}  // namespace

PackedMatrix PlanMatrix(DType source, int64_t rows, int64_t cols) {
  TRIREME_CHECK(rows >= 0 && cols >= 0 && cols % BlockSize(source) == 0);
  PackedMatrix m;
  m.source = source;
  m.rows = rows;
  m.cols = cols;
  m.num_panels = (rows + kPanelRows - 1) / kPanelRows;
  if (IsQuantized(source)) {
    m.panel_bytes = cols / kBlock * BlockFormatOf(source).block_bytes();
  } else {
    const int64_t padded = source == DType::kBF16 ? (cols + 1) / 2 * 2 : cols;
    m.panel_bytes = padded * kPanelRows * BlockBytes(source);
  }
  return m;
}

void PackPanels(const void* source, int64_t row_bytes, int64_t panel_begin, int64_t panel_end,
                const PackedMatrix& m) {
  const PackPanel pack = PackPanelOf(m.source);
  for (int64_t p = panel_begin; p < panel_end; ++p) {
    const int64_t first = p * kPanelRows;
    pack(static_cast<const uint8_t*>(source) + first * row_bytes, row_bytes,
         std::min<int64_t>(kPanelRows, m.rows - first), m.cols, m.data + p * m.panel_bytes);
  }
}

void UnpackRow(const PackedMatrix& m, int64_t row, float* out) {
  const uint8_t* panel = m.data + row / kPanelRows * m.panel_bytes;
  const int r = static_cast<int>(row % kPanelRows);
  if (IsQuantized(m.source)) {
    const BlockFormat format = BlockFormatOf(m.source);
    for (int64_t b = 0; b < m.cols / kBlock; ++b) {
      UnpackBlock(format, panel + b * format.block_bytes(), r, out + b * kBlock);
    }
    return;
  }
  for (int64_t k = 0; k < m.cols; ++k) {
    switch (m.source) {
      case DType::kF16:
        out[k] = LoadF16(panel + (k * kPanelRows + r) * 2);
        break;
      case DType::kBF16:
        out[k] = BF16ToFloat(LoadU16(panel + ((k / 2 * kPanelRows + r) * 2 + k % 2) * 2));
        break;
      default:
        out[k] = std::bit_cast<float>(LoadU32(panel + (k * kPanelRows + r) * 4));
        break;
    }
  }
}

}  // namespace trireme::cpu
