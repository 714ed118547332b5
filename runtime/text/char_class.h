// What pre-tokenizers ask about a code point, in one table look-up.
//
// Categories are Unicode 16.0, the version that the Hugging Face tokenizers library (0.23) matches
// its patterns with.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace trireme {

enum CharFlag : uint8_t {
  kLetter = 1,   // \p{L}
  kNumber = 2,   // \p{N}
  kSpace = 4,    // \s: the White_Space property (not U+180E)
  kNewline = 8,  // \r \n
  kUpper = 16,   // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], the "head" class of o200k
  kLower = 32,   // [\p{Ll}\p{Lm}\p{Lo}\p{M}], the "tail" class of o200k
  kDigit = 64,   // what the Digits pre-tokenizer isolates: \p{N} of Unicode 17.0
  kWord = 128,   // \w, for added tokens that must stand alone
};

class CharTable {
 public:
  // The process's table, built on first use (some milliseconds). Thread-safe.
  static const CharTable& Get();

  // CharFlags of a Unicode scalar value.
  uint8_t operator[](char32_t c) const { return pages_[page_of_[c >> 8]][c & 0xFF]; }

 private:
  using Page = std::array<uint8_t, 256>;
  CharTable();
  std::array<uint16_t, 0x1100> page_of_;
  std::vector<Page> pages_;  // distinct pages
};

}  // namespace trireme
