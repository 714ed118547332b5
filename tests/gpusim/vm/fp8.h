// The 8-bit floats of PTX, as values (PTX ISA, "Alternate Floating-Point Data Formats").
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "tests/gpusim/vm/numbers.h"

namespace trireme::gpusim {

// 4 exponent bits of bias 7, no infinity, one NaN.
inline float FromE4m3(uint8_t bits) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  float value = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -9)
                              : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
  if (exponent == 15 && fraction == 7) value = std::numeric_limits<float>::quiet_NaN();
  return (bits & 0x80) != 0 ? -value : value;
}

// The upper half of an f16.
inline float FromE5m2(uint8_t bits) { return FromF16(static_cast<uint16_t>(bits << 8)); }

// Nearest, ties to even; beyond the largest finite number that one (.satfinite).
inline uint8_t ToFp8(float value, int fraction_bits, int bias, float largest) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  const float magnitude = std::min(std::fabs(value), largest);
  const int exponent = magnitude == 0 ? 1 - bias : std::max(std::ilogb(magnitude), 1 - bias);
  // In units of the last place; a carry out of the fraction is one into the exponent.
  const auto units =
      static_cast<int>(std::nearbyint(std::ldexp(magnitude, fraction_bits - exponent)));
  const int below = (exponent + bias - 1) << fraction_bits;  // 0 for a subnormal number
  return sign | static_cast<uint8_t>(below + units);
}
inline uint8_t ToE4m3(float value) {
  return std::isnan(value) ? uint8_t{0x7f} : ToFp8(value, 3, 7, 448.0f);
}
inline uint8_t ToE5m2(float value) {
  return std::isnan(value) ? uint8_t{0x7f} : ToFp8(value, 2, 15, 57344.0f);
}

}  // namespace trireme::gpusim
