// The 8-bit floats of PTX, as values (PTX ISA, "Alternate Floating-Point Data Formats").
#pragma once

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

}  // namespace trireme::gpusim
