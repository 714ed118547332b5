// Tokens of PTX text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace trireme::gpusim::ptx {

struct Token {
  enum class Kind : uint8_t { kEnd, kWord, kNumber, kString, kPunctuation };
  Kind kind = Kind::kEnd;
  std::string_view text;  // a view of the source; a word holds its dots, its % and its $
  uint32_t line = 0;
  uint64_t bits = 0;  // of a number: two's complement, or the bits of a float or double
  bool is_float = false;
  bool is_double = false;

  bool Is(std::string_view s) const { return text == s && kind != Kind::kString; }
};

// Reads one token after the other. Comments and blanks are skipped.
class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) { Advance(); }

  const Token& peek() const { return token_; }
  Token Take() {
    Token taken = token_;
    Advance();
    return taken;
  }
  // Takes the next token if it is `text`.
  bool Accept(std::string_view text) {
    if (!token_.Is(text)) return false;
    Advance();
    return true;
  }

 private:
  void Advance();
  void SkipBlank();
  void TakeNumber();

  std::string_view source_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  Token token_;
};

}  // namespace trireme::gpusim::ptx
