// UTF-8, as the tokenizers of the Hugging Face library and Python's "replace" error handler see it:
// every maximal ill-formed subsequence (Unicode, "U+FFFD substitution of maximal subparts") is one
// U+FFFD.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace trireme {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

struct Utf8Sequence {
  enum class Kind : uint8_t {
    kValid,
    kInvalid,     // `length` bytes that no continuation can make valid
    kIncomplete,  // the text ends inside a so far valid sequence
  };
  Kind kind;
  uint8_t length;       // 1..4
  char32_t code_point;  // meaningful when valid
};

// The sequence at the front of `text`, which must not be empty.
Utf8Sequence ReadUtf8(std::string_view text);

// The code point at `text[pos]`, moving `pos` behind it. `text` must be valid UTF-8 and pos < size.
inline char32_t NextCodePoint(std::string_view text, size_t& pos) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[pos + i]); };
  const char32_t lead = byte(0);
  if (lead < 0x80) {
    pos += 1;
    return lead;
  }
  if (lead < 0xE0) {
    const char32_t c = (lead & 0x1F) << 6 | (byte(1) & 0x3F);
    pos += 2;
    return c;
  }
  if (lead < 0xF0) {
    const char32_t c = (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    pos += 3;
    return c;
  }
  const char32_t c =
      (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  pos += 4;
  return c;
}

// `code_point` must be a Unicode scalar value.
void AppendUtf8(char32_t code_point, std::string* out);

bool IsValidUtf8(std::string_view text);

// Appends `bytes` to `out` with U+FFFD for what is not UTF-8. Returns how many bytes were used up:
// all of them, or, when `keep_incomplete`, all but an unfinished sequence at the end (at most 3
// bytes).
size_t AppendValidUtf8(std::string_view bytes, bool keep_incomplete, std::string* out);

// `bytes` with everything that is no UTF-8 replaced by U+FFFD, one per maximal subpart (Unicode 15,
// section 3.9).
std::string LossyUtf8(std::string_view bytes);

}  // namespace trireme
