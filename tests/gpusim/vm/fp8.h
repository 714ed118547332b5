// The 8- and 4-bit floats of PTX, as values (PTX ISA, "Alternate Floating-Point Data Formats").
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

// 2 exponent bits of bias 1, 1 of fraction, neither infinity nor NaN.
inline float FromE2m1(int bits) {
  constexpr float kValues[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  return (bits & 8) != 0 ? -kValues[bits & 7] : kValues[bits & 7];
}

// Scale factors: e4m3 without its sign, and powers of two (255: NaN).
inline float FromUe4m3(uint8_t bits) { return FromE4m3(bits & 0x7f); }
inline float FromUe8m0(uint8_t bits) {
  return bits == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0f, bits - 127);
}

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
