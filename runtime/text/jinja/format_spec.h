// What the two ways to format strings share: one padded field.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/text/jinja/text.h"

namespace trireme::jinja {

inline constexpr int64_t kMaxWidth = 100'000;  // of a field, and of a precision

struct Spec {
  std::string fill = " ";
  char align = 0;  // '<', '>', '^', '=', 0: by type
  char sign = '-';
  bool alternate = false;
  int64_t width = 0;
  char grouping = 0;
  int64_t precision = -1;
  char type = 0;
};

// Pads `body` (whose sign, if any, is `sign`) to the width of `spec`.
Value Pad(Runtime& rt, const Spec& spec, char default_align, std::string_view sign,
          const Value& body);

// `base` is at most 16.
std::string IntegerDigits(uint64_t magnitude, unsigned base, bool upper);
unsigned BaseOf(char type);                    // of b, o, x, X; 10 for any other
std::string SignOf(bool negative, char sign);  // `sign` is one of "+- "
uint64_t Magnitude(int64_t v);

}  // namespace trireme::jinja
