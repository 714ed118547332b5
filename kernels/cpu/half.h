// Storage types of the 16-bit floats, so that overloads can tell them apart. Arithmetic happens in
// float.
#pragma once

#include <cstdint>

namespace trireme::cpu {

struct F16 {
  uint16_t bits;
};
struct BF16 {
  uint16_t bits;
};

}  // namespace trireme::cpu
