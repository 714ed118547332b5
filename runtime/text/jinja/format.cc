#include "runtime/text/jinja/format.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "runtime/base/strings.h"
#include "runtime/text/jinja/format_spec.h"
#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme::jinja {
namespace {

class SpecParser {
 public:
  SpecParser(Runtime& rt, std::string_view text) : rt_(rt), text_(text) {}

  Spec Parse() {
    Spec spec;
    ParseAlignment(&spec);
    if (Peek("+- ")) spec.sign = text_[pos_++];
    spec.alternate = Accept('#');
    if (Accept('0') && spec.align == 0) {
      spec.fill = "0";
      spec.align = '=';
    }
    spec.width = ParseNumber();
    if (Peek(",_")) spec.grouping = text_[pos_++];
    if (Accept('.')) {
      if (pos_ >= text_.size() || !IsDigitAt(pos_)) rt_.Fail("format specifier missing precision");
      spec.precision = ParseNumber();
    }
    if (pos_ < text_.size()) spec.type = text_[pos_++];
    if (pos_ != text_.size()) rt_.Fail("invalid format specifier");
    return spec;
  }

  int64_t ParseNumber() {
    int64_t number = 0;
    for (; pos_ < text_.size() && IsDigitAt(pos_); ++pos_) {
      number = number * 10 + (text_[pos_] - '0');
      if (number > kMaxWidth) rt_.Exhausted("format width");
    }
    return number;
  }

 private:
  static bool IsAlign(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }
  bool IsDigitAt(size_t i) const { return text_[i] >= '0' && text_[i] <= '9'; }
  bool Peek(std::string_view any) const {
    return pos_ < text_.size() && any.find(text_[pos_]) != std::string_view::npos;
  }
  bool Accept(char c) {
    if (pos_ >= text_.size() || text_[pos_] != c) return false;
    ++pos_;
    return true;
  }
  void ParseAlignment(Spec* spec) {
    if (text_.empty()) return;
    size_t next = 0;
    NextChar(text_, &next);
    if (next < text_.size() && IsAlign(text_[next])) {
      spec->fill = text_.substr(0, next);
      spec->align = text_[next];
      pos_ = next + 1;
    } else if (IsAlign(text_[0])) {
      spec->align = text_[0];
      pos_ = 1;
    }
  }

  Runtime& rt_;
  const std::string_view text_;
  size_t pos_ = 0;
};

std::string GroupDigits(std::string digits, char separator, size_t group) {
  const size_t whole = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  for (size_t i = whole; i > group;) digits.insert(i -= group, 1, separator);
  return digits;
}

Value FormatInteger(Runtime& rt, const Spec& spec, int64_t value) {
  if (spec.precision >= 0) rt.Fail("precision not allowed in integer format specifier");
  const unsigned base = BaseOf(spec.type);
  std::string digits = IntegerDigits(Magnitude(value), base, spec.type == 'X');
  if (spec.grouping != 0) digits = GroupDigits(digits, spec.grouping, base == 10 ? 3 : 4);
  std::string sign = SignOf(value < 0, spec.sign);
  if (spec.alternate && base != 10) sign += {'0', spec.type};
  return Pad(rt, spec, '>', sign, rt.NewString(digits));
}

Value FormatNumber(Runtime& rt, const Spec& spec, double value) {
  std::string digits;
  const double magnitude = std::abs(value);
  if (spec.type == 0 && spec.precision < 0) {
    digits = FloatRepr(magnitude);
  } else if (spec.type == '%') {
    digits = FormatFloat(magnitude * 100, 'f', static_cast<int>(spec.precision), false) + "%";
  } else {
    const char type = spec.type == 0 || spec.type == 'n' ? 'g' : spec.type;
    digits = FormatFloat(magnitude, type, static_cast<int>(spec.precision), spec.alternate);
    const bool plain = digits.find_first_not_of("0123456789") == std::string::npos;
    if (spec.type == 0 && plain) digits += ".0";
  }
  if (spec.grouping != 0) {
    const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
    digits = GroupDigits(digits.substr(0, whole), spec.grouping, 3) + digits.substr(whole);
  }
  return Pad(rt, spec, '>', SignOf(std::signbit(value), spec.sign), rt.NewString(digits));
}

}  // namespace

Value Pad(Runtime& rt, const Spec& spec, char default_align, std::string_view sign,
          const Value& body) {
  const auto length = static_cast<int64_t>(sign.size() + body.str().num_chars);
  const auto padding = static_cast<size_t>(std::max<int64_t>(0, spec.width - length));
  const char align = spec.align != 0 ? spec.align : default_align;
  const size_t left = align == '>' ? padding : align == '^' ? padding / 2 : 0;
  TextBuilder out(rt);
  out.AppendRepeated(spec.fill, left);
  out.Append(sign);
  if (align == '=') out.AppendRepeated(spec.fill, padding);
  out.Append(body.str());
  if (align == '<' || align == '^') out.AppendRepeated(spec.fill, padding - left);
  return out.Finish();
}

std::string IntegerDigits(uint64_t magnitude, unsigned base, bool upper) {
  const char* const alphabet = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string digits;
  do {
    digits.push_back(alphabet[magnitude % base]);
    magnitude /= base;
  } while (magnitude != 0);
  std::reverse(digits.begin(), digits.end());
  return digits;
}

unsigned BaseOf(char type) {
  switch (type) {
    case 'b':
      return 2;
    case 'o':
      return 8;
    case 'x':
    case 'X':
      return 16;
    default:
      return 10;
  }
}

std::string SignOf(bool negative, char sign) {
  if (negative) return "-";
  return sign == '-' ? std::string() : std::string(1, sign);
}

uint64_t Magnitude(int64_t v) {
  return v < 0 ? uint64_t{0} - static_cast<uint64_t>(v) : static_cast<uint64_t>(v);
}

std::string FormatFloat(double value, char type, int precision, bool alternate) {
  const bool upper = type >= 'A' && type <= 'Z';
  if (std::isnan(value)) return upper ? "NAN" : "nan";
  if (std::isinf(value)) return upper ? (value > 0 ? "INF" : "-INF") : (value > 0 ? "inf" : "-inf");
  const char format[] = {'%',
                         alternate ? '#' : '.',
                         alternate ? '.' : '*',
                         alternate ? '*' : type,
                         alternate ? type : '\0',
                         '\0'};
  if (precision < 0) precision = 6;
  const int size = std::snprintf(nullptr, 0, format, precision, value);
  std::string out(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(out.data(), out.size(), format, precision, value);
  out.pop_back();
  return out;
}

Value FormatSpec(Runtime& rt, const Value& value, std::string_view text) {
  if (text.empty()) return ToStr(rt, value);
  const Spec spec = SpecParser(rt, text).Parse();
  static constexpr std::string_view kFloatTypes = "eEfFgG%";
  if (value.is_integral() && (spec.type == 0 || kFloatTypes.find(spec.type) == std::string::npos)) {
    if (spec.type != 0 && std::string_view("bdnoxX").find(spec.type) == std::string_view::npos) {
      rt.Fail("unknown format code for an integer");
    }
    return FormatInteger(rt, spec, value.integer());
  }
  if (value.is_number()) {
    if (spec.type != 0 && spec.type != 'n' && kFloatTypes.find(spec.type) == std::string::npos) {
      rt.Fail("unknown format code for a float");
    }
    return FormatNumber(rt, spec, value.number());
  }
  if (!value.is_string()) rt.Fail(StrCat("unsupported format specification for ", TypeName(value)));
  const bool valid = (spec.type == 0 || spec.type == 's') && spec.align != '=' &&
                     spec.sign == '-' && spec.grouping == 0;
  if (!valid) rt.Fail("format specification not allowed for strings");
  Value body = value;
  if (spec.precision >= 0) {
    const auto keep = static_cast<size_t>(spec.precision);
    body = CharRange(rt, body.str(), 0, std::min(keep, body.str().num_chars));
  }
  return Pad(rt, spec, '<', "", body);
}

}  // namespace trireme::jinja
