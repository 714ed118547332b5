#include "tests/gpusim/ptx/lexer.h"

#include <bit>
#include <cctype>
#include <charconv>

namespace trireme::gpusim::ptx {
namespace {

bool StartsWord(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%' ||
         c == '.';
}
bool ContinuesWord(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '.';
}

}  // namespace

void Lexer::SkipBlank() {
  while (at_ < source_.size()) {
    const std::string_view rest = source_.substr(at_);
    if (rest.starts_with("//")) {
      at_ = std::min(source_.find('\n', at_), source_.size());
    } else if (rest.starts_with("/*")) {
      const size_t end = std::min(source_.find("*/", at_ + 2), source_.size() - 2) + 2;
      for (; at_ < end; ++at_) line_ += source_[at_] == '\n';
    } else if (std::isspace(static_cast<unsigned char>(rest[0])) || rest[0] == '\0') {
      line_ += rest[0] == '\n';
      ++at_;
    } else {
      return;
    }
  }
}

// Decimal, hexadecimal, octal, binary with an optional U; 0fXXXXXXXX and 0dXXXXXXXXXXXXXXXX; 1.5e3.
void Lexer::TakeNumber() {
  size_t end = at_;
  const auto is_word = [this](size_t i) {
    return i < source_.size() && (ContinuesWord(source_[i]));
  };
  while (is_word(end) ||
         (end < source_.size() && (source_[end] == '-' || source_[end] == '+') &&
          (source_[end - 1] == 'e' || source_[end - 1] == 'E') && source_.substr(at_, 2) != "0x" &&
          source_.substr(at_, end - at_).find('.') != std::string_view::npos)) {
    ++end;
  }
  const std::string_view text = source_.substr(at_, end - at_);
  token_.kind = Token::Kind::kNumber;
  token_.text = text;
  at_ = end;
  const char second =
      text.size() > 1 && text[0] == '0' ? static_cast<char>(std::tolower(text[1])) : ' ';
  const auto parse = [&](size_t skip, int base) {
    std::from_chars(text.data() + skip, text.data() + text.size(), token_.bits, base);
  };
  if (second == 'f' && text.size() == 10) {
    parse(2, 16);
    token_.is_float = true;
  } else if (second == 'd' && text.size() == 18) {
    parse(2, 16);
    token_.is_double = true;
  } else if (second == 'x') {
    parse(2, 16);
  } else if (second == 'b') {
    parse(2, 2);
  } else if (text.find('.') != std::string_view::npos) {
    double value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    token_.bits = std::bit_cast<uint64_t>(value);
    token_.is_double = true;
  } else {
    parse(0, text.size() > 1 && text[0] == '0' ? 8 : 10);
  }
}

void Lexer::Advance() {
  SkipBlank();
  token_ = {};
  token_.line = line_;
  if (at_ >= source_.size()) return;
  const char c = source_[at_];
  if (std::isdigit(static_cast<unsigned char>(c))) return TakeNumber();
  size_t end = at_ + 1;
  if (c == '"') {
    while (end < source_.size() && source_[end] != '"') ++end;
    token_.kind = Token::Kind::kString;
    token_.text = source_.substr(at_ + 1, end - at_ - 1);
    at_ = std::min(end + 1, source_.size());
    return;
  }
  if (StartsWord(c) && end < source_.size() && (ContinuesWord(source_[end]) || c != '.')) {
    // "ld.shared::cta.u32" is one word; "label:" is a word and a colon.
    for (;; ++end) {
      if (end < source_.size() && ContinuesWord(source_[end])) continue;
      if (source_.substr(end, 2) == "::" && end + 2 < source_.size() &&
          ContinuesWord(source_[end + 2])) {
        ++end;
        continue;
      }
      break;
    }
    token_.kind = Token::Kind::kWord;
  } else {
    token_.kind = Token::Kind::kPunctuation;
  }
  token_.text = source_.substr(at_, end - at_);
  at_ = end;
}

}  // namespace trireme::gpusim::ptx
