// Text transformations that come before tokenization; each carries along which bytes are a user's
// (added_tokens.h).
#pragma once

#include <string>

#include "runtime/text/added_tokens.h"

namespace trireme {

// An owned GuardedText.
struct GuardedString {
  std::string text;
  std::string protection;  // empty, or one character per byte of `text`

  GuardedText view() const { return {text, protection}; }
  // Appends `bytes` with `mark` as their protection, which is kept only when `source` has any.
  void Append(std::string_view bytes, char mark, const GuardedText& source);
};

// U+FFFD for bytes that are not UTF-8.
GuardedString WithValidUtf8(const GuardedText& source);

// Unicode NFC; `source` is valid UTF-8. A changed stretch is protected if any byte of it was.
GuardedString WithNfc(const GuardedText& source);

// U+2581 for every space, and one more at the front when `prefix`.
GuardedString WithSpaceMarks(const GuardedText& source, bool prefix);

}  // namespace trireme
