// Unicode normalization form C.
#pragma once

#include <string>
#include <string_view>

namespace trireme {

// True when every code point is below U+0300: such text is always in NFC.
bool IsTriviallyNfc(std::string_view text);

// NFC of `text` (valid UTF-8) in O(n log n). utf8proc's own utf8proc_NFC reorders combining marks
// in quadratic time, which a megabyte of marks would turn into hours.
std::string ToNfc(std::string_view text);

}  // namespace trireme
