#include "runtime/base/quant_formats.h"

#include <cstring>

namespace trireme {
namespace {

uint16_t LoadU16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }
float LoadF16(const uint8_t* p) { return F16ToFloat(LoadU16(p)); }

void DecodeQ8_0(const uint8_t* block, float* out) {
  const float d = LoadF16(block);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
}

// Q4_0, Q4_1, Q5_0, Q5_1. `bits`: 4 or 5; `has_min`: x = d q + m, else x = d (q - 2^(bits-1)).
void DecodeLegacy(int bits, bool has_min, const uint8_t* block, float* out) {
  const float d = LoadF16(block);
  const float m = has_min ? LoadF16(block + 2) : 0.0f;
  const uint8_t* fifth_bits = block + (has_min ? 4 : 2);
  const uint8_t* nibbles = fifth_bits + (bits == 5 ? 4 : 0);
  for (int i = 0; i < 32; ++i) {
    int q = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
    if (bits == 5) q |= ((fifth_bits[i / 8] >> (i % 8)) & 1) << 4;
    out[i] =
        has_min ? d * static_cast<float>(q) + m : d * static_cast<float>(q - (1 << (bits - 1)));
  }
}

// Q4_K and Q5_K.
void DecodeKWithMins(int bits, const uint8_t* block, float* out) {
  const float d = LoadF16(block);
  const float dmin = LoadF16(block + 2);
  const uint8_t* b = block + 4;
  const uint8_t* fifth_bits = block + 16;
  const uint8_t* nibbles = fifth_bits + (bits == 5 ? 32 : 0);
  for (int j = 0; j < 8; ++j) {
    const int scale = j < 4 ? b[j] & 63 : (b[j + 4] & 15) | (b[j - 4] >> 6) << 4;
    const int min = j < 4 ? b[j + 4] & 63 : b[j + 4] >> 4 | (b[j] >> 6) << 4;
    const float multiplier = d * static_cast<float>(scale);
    const float offset = dmin * static_cast<float>(min);
    for (int i = 0; i < 32; ++i) {
      const uint8_t byte = nibbles[j / 2 * 32 + i];
      int q = j % 2 == 0 ? byte & 15 : byte >> 4;
      if (bits == 5) q |= ((fifth_bits[i] >> j) & 1) << 4;
      out[j * 32 + i] = multiplier * static_cast<float>(q) - offset;
    }
  }
}

void DecodeQ6_K(const uint8_t* block, float* out) {
  const int8_t* scales = reinterpret_cast<const int8_t*>(block + 192);
  const float d = LoadF16(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, in_half = i % 128, quarter = in_half / 32;
    const uint8_t low = block[half * 64 + in_half % 64];
    const uint8_t pairs = block[128 + half * 32 + in_half % 32];
    const int q = (quarter < 2 ? low & 15 : low >> 4) | ((pairs >> (2 * quarter)) & 3) << 4;
    const int group = i / 16;
    out[i] = d * static_cast<float>(scales[group]) * static_cast<float>(q - 32);
  }
}

void DecodeBlock(DType type, const uint8_t* block, float* out) {
  switch (type) {
    case DType::kF32:
      std::memcpy(out, block, sizeof(float));
      return;
    case DType::kF16:
      *out = LoadF16(block);
      return;
    case DType::kBF16:
      *out = BF16ToFloat(LoadU16(block));
      return;
    case DType::kQ4_0:
      return DecodeLegacy(4, /*has_min=*/false, block, out);
    case DType::kQ4_1:
      return DecodeLegacy(4, /*has_min=*/true, block, out);
    case DType::kQ5_0:
      return DecodeLegacy(5, /*has_min=*/false, block, out);
    case DType::kQ5_1:
      return DecodeLegacy(5, /*has_min=*/true, block, out);
    case DType::kQ8_0:
      return DecodeQ8_0(block, out);
    case DType::kQ4_K:
      return DecodeKWithMins(4, block, out);
    case DType::kQ5_K:
      return DecodeKWithMins(5, block, out);
    case DType::kQ6_K:
      return DecodeQ6_K(block, out);
  }
}

}  // namespace

void DequantizeRow(DType type, const void* row, int64_t n, float* out) {
  const auto* block = static_cast<const uint8_t*>(row);
  for (int64_t i = 0; i < n; i += BlockSize(type), block += BlockBytes(type)) {
    DecodeBlock(type, block, out + i);
  }
}

}  // namespace trireme
