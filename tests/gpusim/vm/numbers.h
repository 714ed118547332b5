// The number formats of PTX that C++ lacks, and rounding into them.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace trireme::gpusim {

inline float FromBf16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }
// Nearest, ties to even. A NaN is the canonical one.
inline uint16_t ToBf16(float value) {
  if (std::isnan(value)) return 0x7fff;
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline uint16_t ToBf16TowardZero(float value) {
  return std::isnan(value) ? uint16_t{0x7fff}
                           : static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
}

inline float FromF16(uint16_t bits) { return static_cast<float>(std::bit_cast<_Float16>(bits)); }
inline uint16_t ToF16(float value) {
  if (std::isnan(value)) return 0x7fff;
  return std::bit_cast<uint16_t>(static_cast<_Float16>(value));
}

// .ftz: subnormal numbers are zero of their sign.
inline float Flush(float value) {
  return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0f, value) : value;
}

// A NaN result of f32 arithmetic is 0x7fffffff.
inline float Canonical(float value) {
  return std::isnan(value) ? std::bit_cast<float>(0x7fffffffu) : value;
}

}  // namespace trireme::gpusim
