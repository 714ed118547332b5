#include "runtime/text/jinja/lexer.h"

#include <algorithm>

#include "runtime/base/strings.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme::jinja {
namespace {

constexpr auto kNone = std::string_view::npos;

// All line ends become "\n"; one at the very end of the source is dropped.
std::string NormalizeNewlines(std::string_view source, bool drop_last) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out.push_back(source[i]);
    }
  }
  if (drop_last && !out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool IsAsciiDigit(char c) { return c >= '0' && c <= '9'; }
bool IsHexDigit(char c) {
  return IsAsciiDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(NormalizeNewlines(source, true)) {}

  std::vector<Token> Run() {
    while (pos_ < source_.size()) Root();
    Emit(TokenType::kEnd, "", pos_);
    return std::move(tokens_);
  }

 private:
  // Text up to the next tag, and the tag.
  void Root() {
    size_t tag = source_.find('{', pos_);
    while (tag != kNone && (tag + 1 >= source_.size() || !IsTagChar(source_[tag + 1]))) {
      tag = source_.find('{', tag + 1);
    }
    if (tag == kNone) {
      Emit(TokenType::kData, source_.substr(pos_), pos_);
      pos_ = source_.size();
      return;
    }
    const char kind = source_[tag + 1];
    size_t inside = tag + 2;
    const char sign = inside < source_.size() ? source_[inside] : '\0';
    if (sign == '-' || sign == '+') ++inside;
    EmitData(pos_, tag, sign, /*may_lstrip=*/kind != '{');
    pos_ = inside;
    if (kind == '#') return Comment(tag);
    if (kind == '%' && RawBegin()) return Raw(tag);
    Emit(kind == '{' ? TokenType::kVariableBegin : TokenType::kBlockBegin, "", tag);
    Inside(tag, kind == '{');
  }

  static bool IsTagChar(char c) { return c == '{' || c == '%' || c == '#'; }

  void EmitData(size_t begin, size_t end, char sign, bool may_lstrip) {
    std::string_view text = std::string_view(source_).substr(begin, end - begin);
    if (sign == '-') {
      size_t first, last;
      TrimSpace(text, false, true, &first, &last);
      text = text.substr(0, last);
    } else if (sign != '+' && may_lstrip) {
      const size_t newline = text.rfind('\n');
      const size_t line = newline == kNone ? 0 : newline + 1;
      size_t first, last;
      TrimSpace(text.substr(line), true, false, &first, &last);
      if ((line > 0 || line_starting_) && first == last) text = text.substr(0, line);
    }
    if (!text.empty()) Emit(TokenType::kData, std::string(text), begin);
  }

  // Moves past a closing tag at pos_ (its '-' or '+' included) and the white space that it eats.
  void CloseTag(char sign, size_t tag_size, bool trim_newline) {
    pos_ += tag_size;
    if (sign == '-') {
      SkipSpace();
    } else if (sign != '+' && trim_newline && pos_ < source_.size() && source_[pos_] == '\n') {
      ++pos_;
    }
    line_starting_ = pos_ > 0 && source_[pos_ - 1] == '\n';
  }

  void SkipSpace() {
    while (pos_ < source_.size()) {
      size_t next = pos_;
      if (!IsSpace(NextChar(source_, &next))) return;
      pos_ = next;
    }
  }

  void Comment(size_t tag) {
    const size_t end = source_.find("#}", pos_);
    if (end == kNone) FailAt(PositionOf(tag), "missing end of comment tag");
    const char sign = end > pos_ ? source_[end - 1] : '\0';
    pos_ = end;
    CloseTag(sign, 2, /*trim_newline=*/true);
  }

  // Accepts the rest of "{% raw %}"; leaves pos_ alone when it is another tag.
  bool RawBegin() {
    const size_t start = pos_;
    if (AcceptWord("raw")) {
      const char sign = pos_ < source_.size() ? source_[pos_] : '\0';
      if (sign == '-') ++pos_;
      if (source_.compare(pos_, 2, "%}") == 0) {
        CloseTag(sign, 2, /*trim_newline=*/false);
        return true;
      }
    }
    pos_ = start;
    return false;
  }

  // white space, `word`, white space
  bool AcceptWord(std::string_view word) {
    SkipSpace();
    if (source_.compare(pos_, word.size(), word) != 0) return false;
    pos_ += word.size();
    SkipSpace();
    return true;
  }

  void Raw(size_t tag) {
    const size_t begin = pos_;
    for (size_t end = source_.find("{%", pos_); end != kNone; end = source_.find("{%", end + 1)) {
      pos_ = end + 2;
      const char open = pos_ < source_.size() ? source_[pos_] : '\0';
      if (open == '-' || open == '+') ++pos_;
      if (!AcceptWord("endraw")) continue;
      const char close = pos_ < source_.size() ? source_[pos_] : '\0';
      const size_t signs = close == '-' || close == '+' ? 1 : 0;
      if (source_.compare(pos_ + signs, 2, "%}") != 0) continue;
      EmitData(begin, end, open, /*may_lstrip=*/true);
      CloseTag(close, 2 + signs, /*trim_newline=*/true);
      return;
    }
    FailAt(PositionOf(tag), "missing end of raw directive");
  }

  void Inside(size_t tag, bool variable) {
    const std::string_view close = variable ? "}}" : "%}";
    while (true) {
      SkipSpace();
      if (pos_ >= source_.size()) FailAt(PositionOf(tag), "this tag is never closed");
      if (brackets_.empty()) {
        const char sign = source_[pos_];
        // "{{ ... +}}" does not exist: there, '+' is an operator.
        const size_t signs = sign == '-' || (sign == '+' && !variable) ? 1 : 0;
        if (source_.compare(pos_ + signs, 2, close) == 0) {
          Emit(variable ? TokenType::kVariableEnd : TokenType::kBlockEnd, "", pos_);
          return CloseTag(sign, 2 + signs, /*trim_newline=*/!variable);
        }
      }
      Lexeme();
    }
  }

  void Lexeme() {
    const char c = source_[pos_];
    if (IsAsciiDigit(c)) return Number();
    if (c == '"' || c == '\'') return String(c);
    size_t next = pos_;
    if (IsWord(NextChar(source_, &next))) return Name();
    Operator();
  }

  void Name() {
    const size_t begin = pos_;
    while (pos_ < source_.size()) {
      size_t next = pos_;
      if (!IsWord(NextChar(source_, &next))) break;
      pos_ = next;
    }
    Emit(TokenType::kName, source_.substr(begin, pos_ - begin), begin);
  }

  // Digits with single underscores between them, from `i`. Returns the end.
  size_t DigitsEnd(size_t i, bool hex) const {
    const auto digit = [&](size_t k) {
      return k < source_.size() && (hex ? IsHexDigit(source_[k]) : IsAsciiDigit(source_[k]));
    };
    while (digit(i) || (i < source_.size() && source_[i] == '_' && digit(i + 1))) ++i;
    return i;
  }

  void Number() {
    const size_t begin = pos_;
    const char second = pos_ + 1 < source_.size() ? static_cast<char>(source_[pos_ + 1] | 0x20) : 0;
    bool is_float = false;
    if (source_[pos_] == '0' && (second == 'x' || second == 'o' || second == 'b') &&
        DigitsEnd(pos_ + 2, true) > pos_ + 2) {
      pos_ = DigitsEnd(pos_ + 2, second == 'x');
    } else {
      pos_ = DigitsEnd(pos_, false);
      // "1.x" and "a.1.2" are attribute accesses, not floats.
      const bool after_dot = begin > 0 && source_[begin - 1] == '.';
      if (!after_dot && pos_ + 1 < source_.size() && source_[pos_] == '.' &&
          IsAsciiDigit(source_[pos_ + 1])) {
        pos_ = DigitsEnd(pos_ + 1, false);
        is_float = true;
      }
      if (!after_dot && pos_ < source_.size() && (source_[pos_] | 0x20) == 'e') {
        size_t exponent = pos_ + 1;
        if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) {
          ++exponent;
        }
        if (exponent < source_.size() && IsAsciiDigit(source_[exponent])) {
          pos_ = DigitsEnd(exponent, false);
          is_float = true;
        }
      }
    }
    std::string digits = source_.substr(begin, pos_ - begin);
    digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
    Emit(is_float ? TokenType::kFloat : TokenType::kInteger, std::move(digits), begin);
  }

  void String(char quote) {
    const size_t begin = pos_++;
    std::string text;
    while (true) {
      if (pos_ >= source_.size()) FailAt(PositionOf(begin), "this string is never closed");
      const char c = source_[pos_++];
      if (c == quote) break;
      if (c == '\\') {
        Escape(begin, &text);
      } else {
        text.push_back(c);
      }
    }
    Emit(TokenType::kString, std::move(text), begin);
  }

  void Escape(size_t string_begin, std::string* out) {
    if (pos_ >= source_.size()) FailAt(PositionOf(string_begin), "this string is never closed");
    const char c = source_[pos_++];
    switch (c) {
      case '\n':
        return;  // a line continuation
      case 'n':
        out->push_back('\n');
        return;
      case 't':
        out->push_back('\t');
        return;
      case 'r':
        out->push_back('\r');
        return;
      case 'a':
        out->push_back('\a');
        return;
      case 'b':
        out->push_back('\b');
        return;
      case 'f':
        out->push_back('\f');
        return;
      case 'v':
        out->push_back('\v');
        return;
      case '\\':
      case '\'':
      case '"':
        out->push_back(c);
        return;
      case 'x':
        return HexEscape(2, out);
      case 'u':
        return HexEscape(4, out);
      case 'U':
        return HexEscape(8, out);
      case 'N':
        FailAt(PositionOf(pos_ - 2), "escapes by character name are not supported");
      default:
        break;
    }
    if (c >= '0' && c <= '7') {
      char32_t code = static_cast<char32_t>(c - '0');
      for (int i = 0;
           i < 2 && pos_ < source_.size() && source_[pos_] >= '0' && source_[pos_] <= '7'; ++i) {
        code = code * 8 + static_cast<char32_t>(source_[pos_++] - '0');
      }
      return AppendChar(code, out);
    }
    out->push_back('\\');  // unknown escapes stay as they are
    out->push_back(c);
  }

  void HexEscape(size_t digits, std::string* out) {
    const size_t begin = pos_ - 2;
    char32_t code = 0;
    for (size_t i = 0; i < digits; ++i) {
      if (pos_ >= source_.size() || !IsHexDigit(source_[pos_])) {
        FailAt(PositionOf(begin), "truncated escape in a string");
      }
      const char c = source_[pos_++];
      code = code * 16 + static_cast<char32_t>(IsAsciiDigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
      FailAt(PositionOf(begin), "escape of an impossible character");
    }
    AppendChar(code, out);
  }

  void Operator() {
    static constexpr std::string_view kOperators[] = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    for (std::string_view op : kOperators) {
      if (source_.compare(pos_, op.size(), op) != 0) continue;
      Balance(op[0]);
      Emit(TokenType::kOperator, std::string(op), pos_);
      pos_ += op.size();
      return;
    }
    FailAt(PositionOf(pos_), "unexpected character");
  }

  void Balance(char c) {
    if (c == '(' || c == '[' || c == '{') {
      brackets_.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
      if (brackets_.empty() || brackets_.back() != c) {
        FailAt(PositionOf(pos_), StrCat("unexpected '", std::string(1, c), "'"));
      }
      brackets_.pop_back();
    }
  }

  void Emit(TokenType type, std::string text, size_t at) {
    tokens_.push_back({type, std::move(text), PositionOf(at)});
  }

  // Mostly called with growing offsets: remembers where it stopped counting lines.
  Position PositionOf(size_t offset) {
    if (offset < counted_) {
      counted_ = line_begin_ = 0;
      row_ = 1;
    }
    for (; counted_ < offset; ++counted_) {
      if (source_[counted_] != '\n') continue;
      ++row_;
      line_begin_ = counted_ + 1;
    }
    return {row_, static_cast<uint32_t>(offset - line_begin_ + 1)};
  }

  const std::string source_;
  size_t pos_ = 0;
  bool line_starting_ = true;
  std::string brackets_;  // closing brackets expected, innermost last
  std::vector<Token> tokens_;
  size_t counted_ = 0, line_begin_ = 0;
  uint32_t row_ = 1;
};

}  // namespace

std::vector<Token> Tokenize(std::string_view source) { return Lexer(source).Run(); }

void FailAt(Position position, std::string_view message) {
  throw TemplateError(absl::InvalidArgumentError(
      StrCat("chat template, ", ToString(position), ": ", Printable(message, kMaxMessageBytes))));
}

}  // namespace trireme::jinja
