#include "runtime/text/jinja/format.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "runtime/base/strings.h"
#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme::jinja {
namespace {

constexpr int64_t kMaxWidth = 100'000;  // of a field, and of a precision

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

// Pads `body` (whose sign, if any, is `sign`) to the width of `spec`.
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

std::string GroupDigits(std::string digits, char separator, size_t group) {
  const size_t whole = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  for (size_t i = whole; i > group;) digits.insert(i -= group, 1, separator);
  return digits;
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
    case 'b': return 2;
    case 'o': return 8;
    case 'x':
    case 'X': return 16;
    default: return 10;
  }
}

std::string SignOf(bool negative, char sign) {
  if (negative) return "-";
  return sign == '-' ? std::string() : std::string(1, sign);
}

uint64_t Magnitude(int64_t v) {
  return v < 0 ? uint64_t{0} - static_cast<uint64_t>(v) : static_cast<uint64_t>(v);
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

// One "%" conversion.
struct Conversion {
  bool left = false, zero = false, alternate = false;
  char sign = '-';
  int64_t width = 0, precision = -1;
  char type = 0;
};

class PercentFormatter {
 public:
  PercentFormatter(Runtime& rt, const Str& format, const Value& values)
      : rt_(rt), format_(format), text_(format.bytes), values_(values), out_(rt) {
    tuple_ = values.is(Type::kList) && values.list().kind == ListKind::kTuple;
  }

  Value Run() {
    size_t done = 0;
    while ((pos_ = text_.find('%', done)) != std::string_view::npos) {
      out_.AppendRange(format_, done, pos_);
      ++pos_;
      One();
      done = pos_;
    }
    out_.AppendRange(format_, done, text_.size());
    const size_t given = tuple_ ? values_.list().items.size() : 1;
    if (!values_.is(Type::kDict) && used_ < given) {
      rt_.Fail("not all arguments converted during string formatting");
    }
    return out_.Finish(format_.markup);
  }

 private:
  char Take() {
    if (pos_ >= text_.size()) rt_.Fail("incomplete format");
    return text_[pos_++];
  }

  Value NextValue() {
    if (keyed_) return key_value_;
    if (!tuple_) {
      if (used_++ > 0) rt_.Fail("not enough arguments for format string");
      return values_;
    }
    if (used_ >= values_.list().items.size()) rt_.Fail("not enough arguments for format string");
    return values_.list().items[used_++];
  }

  void ParseKey() {
    keyed_ = false;
    if (pos_ >= text_.size() || text_[pos_] != '(') return;
    const size_t begin = ++pos_;
    for (int depth = 1; depth > 0;) {
      const char c = Take();
      depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    }
    if (!values_.is(Type::kDict)) rt_.Fail("format requires a mapping");
    const Value* found = values_.dict().Find(text_.substr(begin, pos_ - 1 - begin));
    if (found == nullptr) rt_.Fail("format key is not in the mapping");
    keyed_ = true;
    key_value_ = *found;
  }

  int64_t ParseCount() {
    if (pos_ < text_.size() && text_[pos_] == '*') {
      ++pos_;
      const Value count = NextValue();
      if (!count.is_integral()) rt_.Fail("* wants an integer");
      if (count.integer() > kMaxWidth || count.integer() < -kMaxWidth) rt_.Exhausted("width");
      return count.integer();
    }
    int64_t count = 0;
    while (pos_ < text_.size() && text_[pos_] >= '0' && text_[pos_] <= '9') {
      count = count * 10 + (text_[pos_++] - '0');
      if (count > kMaxWidth) rt_.Exhausted("format width");
    }
    return count;
  }

  void One() {
    ParseKey();
    Conversion c;
    for (; pos_ < text_.size(); ++pos_) {
      const char flag = text_[pos_];
      if (flag == '-') c.left = true;
      else if (flag == '0') c.zero = true;
      else if (flag == '#') c.alternate = true;
      else if (flag == '+') c.sign = '+';
      else if (flag == ' ') c.sign = c.sign == '+' ? '+' : ' ';
      else break;
    }
    c.width = ParseCount();
    if (c.width < 0) {
      c.left = true;
      c.width = -c.width;
    }
    if (pos_ < text_.size() && text_[pos_] == '.') {
      ++pos_;
      c.precision = std::max<int64_t>(0, ParseCount());
    }
    c.type = Take();
    while (c.type == 'h' || c.type == 'l' || c.type == 'L') c.type = Take();
    if (c.type == '%') return out_.Append("%");
    Convert(c, NextValue());
  }

  void Convert(const Conversion& c, const Value& value) {
    Spec spec;
    spec.width = c.width;
    spec.align = c.left ? '<' : 0;
    switch (c.type) {
      case 's':
      case 'r':
      case 'a': {
        Value text = value;
        if (c.type != 's') {
          TextBuilder repr(rt_);
          AppendRepr(rt_, value, &repr);
          text = repr.Finish();
        }
        text = ToStr(rt_, text);
        if (c.precision >= 0) {
          const auto keep = static_cast<size_t>(c.precision);
          text = CharRange(rt_, text.str(), 0, std::min(keep, text.str().num_chars));
        }
        return out_.Append(Pad(rt_, spec, '>', "", text).str());
      }
      case 'c': return Character(spec, value);
      case 'd':
      case 'i':
      case 'u':
      case 'o':
      case 'x':
      case 'X': return Integer(c, spec, value);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': return Float(c, spec, value);
      default: rt_.Fail("unsupported format character");
    }
  }

  void Character(const Spec& spec, const Value& value) {
    if (value.is_string() && value.str().num_chars == 1) {
      return out_.Append(Pad(rt_, spec, '>', "", value).str());
    }
    const bool valid = value.is_integral() && value.integer() >= 0 &&
                       value.integer() < 0x110000 && value.integer() / 0x800 != 0x1B;
    if (!valid) rt_.Fail("%c requires an integer or a character");
    std::string bytes;
    AppendChar(static_cast<char32_t>(value.integer()), &bytes);
    out_.Append(Pad(rt_, spec, '>', "", rt_.NewString(bytes)).str());
  }

  void Zeros(const Conversion& c, Spec* spec) {
    if (!c.zero || c.left) return;
    spec->fill = "0";
    spec->align = '=';
  }

  void Integer(const Conversion& c, Spec spec, const Value& value) {
    int64_t number = 0;
    if (value.is_integral()) {
      number = value.integer();
    } else if (value.is(Type::kFloat) && BaseOf(c.type) == 10 && std::abs(value.number()) < 9e18) {
      number = static_cast<int64_t>(value.number());
    } else {
      rt_.Fail(StrCat("a number is required for this format, not ", TypeName(value)));
    }
    std::string digits = IntegerDigits(Magnitude(number), BaseOf(c.type), c.type == 'X');
    if (c.precision > static_cast<int64_t>(digits.size())) {
      digits.insert(0, static_cast<size_t>(c.precision) - digits.size(), '0');
    }
    std::string sign = SignOf(number < 0, c.sign);
    if (c.alternate && BaseOf(c.type) != 10) sign += {'0', c.type};
    Zeros(c, &spec);
    out_.Append(Pad(rt_, spec, '>', sign, rt_.NewString(digits)).str());
  }

  void Float(const Conversion& c, Spec spec, const Value& value) {
    if (!value.is_number()) rt_.Fail(StrCat("must be real number, not ", TypeName(value)));
    const std::string digits = FormatFloat(std::abs(value.number()), c.type,
                                           static_cast<int>(c.precision), c.alternate);
    Zeros(c, &spec);
    const std::string sign = SignOf(std::signbit(value.number()), c.sign);
    out_.Append(Pad(rt_, spec, '>', sign, rt_.NewString(digits)).str());
  }

  Runtime& rt_;
  const Str& format_;
  const std::string_view text_;
  const Value values_;
  TextBuilder out_;
  size_t pos_ = 0, used_ = 0;
  bool tuple_ = false, keyed_ = false;
  Value key_value_;
};

class BraceFormatter {
 public:
  BraceFormatter(Runtime& rt, const Args& args) : rt_(rt), args_(args) {}

  Value Run(const Str& format, int depth) {
    if (depth > 2) rt_.Fail("max string recursion exceeded");
    TextBuilder out(rt_);
    const std::string_view text = format.bytes;
    size_t done = 0;
    while (done < text.size()) {
      const size_t brace = std::min(text.find_first_of("{}", done), text.size());
      out.AppendRange(format, done, brace);
      if (brace == text.size()) break;
      if (brace + 1 < text.size() && text[brace + 1] == text[brace]) {
        out.AppendRange(format, brace, brace + 1);
        done = brace + 2;
        continue;
      }
      if (text[brace] == '}') rt_.Fail("single '}' encountered in format string");
      const size_t end = FieldEnd(text, brace + 1);
      out.Append(Field(format, brace + 1, end, depth).str());
      done = end + 1;
    }
    return out.Finish(format.markup);
  }

 private:
  size_t FieldEnd(std::string_view text, size_t pos) const {
    for (int nested = 1; pos < text.size(); ++pos) {
      nested += text[pos] == '{' ? 1 : text[pos] == '}' ? -1 : 0;
      if (nested == 0) return pos;
    }
    rt_.Fail("expected '}' before end of string");
  }

  Value Field(const Str& format, size_t begin, size_t end, int depth) {
    const std::string_view field = format.bytes.substr(begin, end - begin);
    const size_t colon = std::min(field.find(':'), field.size());
    const size_t bang = std::min(field.find('!'), colon);
    Value value = Lookup(field.substr(0, bang));
    if (bang < colon) {
      const std::string_view conversion = field.substr(bang + 1, colon - bang - 1);
      if (conversion == "r") {
        TextBuilder repr(rt_);
        AppendRepr(rt_, value, &repr);
        value = repr.Finish();
      } else if (conversion == "s") {
        value = ToStr(rt_, value);
      } else {
        rt_.Fail("unknown conversion in format string");
      }
    }
    if (colon == field.size()) return FormatSpec(rt_, value, "");
    const Value spec = Run(Substring(rt_, format, begin + colon + 1, end).str(), depth + 1);
    return FormatSpec(rt_, value, spec.str().bytes);
  }

  Value Lookup(std::string_view path) {
    const size_t first = std::min(path.find_first_of(".["), path.size());
    Value value = Argument(path.substr(0, first));
    for (size_t pos = first; pos < path.size();) {
      if (path[pos] == '.') {
        const size_t end = std::min(path.find_first_of(".[", pos + 1), path.size());
        value = GetAttribute(rt_, value, rt_.NewString(path.substr(pos + 1, end - pos - 1)).str());
        pos = end;
      } else {
        const size_t end = path.find(']', pos);
        if (end == std::string_view::npos) rt_.Fail("missing ']' in format string");
        const std::string_view key = path.substr(pos + 1, end - pos - 1);
        const int64_t index = Index(key);
        value = GetItem(rt_, value, index >= 0 ? Value::Int(index) : rt_.NewString(key));
        pos = end + 1;
      }
    }
    return value;
  }

  // -1 for names.
  static int64_t Index(std::string_view text) {
    if (text.empty() || text.size() > 9) return -1;
    int64_t index = 0;
    for (char c : text) {
      if (c < '0' || c > '9') return -1;
      index = index * 10 + (c - '0');
    }
    return index;
  }

  Value Argument(std::string_view name) {
    const int64_t index = name.empty() ? next_++ : Index(name);
    if (index >= 0) {
      if (static_cast<size_t>(index) >= args_.positional.size()) {
        rt_.Fail("replacement index out of range for positional arguments");
      }
      return args_.positional[static_cast<size_t>(index)];
    }
    for (const auto& [key, value] : args_.named) {
      if (key->bytes == name) return value;
    }
    rt_.Fail("format string names an argument that was not passed");
  }

  Runtime& rt_;
  const Args& args_;
  int64_t next_ = 0;
};

}  // namespace

std::string FormatFloat(double value, char type, int precision, bool alternate) {
  const bool upper = type >= 'A' && type <= 'Z';
  if (std::isnan(value)) return upper ? "NAN" : "nan";
  if (std::isinf(value)) return upper ? (value > 0 ? "INF" : "-INF") : (value > 0 ? "inf" : "-inf");
  const char format[] = {'%', alternate ? '#' : '.', alternate ? '.' : '*', alternate ? '*' : type,
                         alternate ? type : '\0', '\0'};
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
    if (value.is(Type::kBool) && spec.type == 0) return Pad(rt, spec, '>', "", ToStr(rt, value));
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

Value FormatPercent(Runtime& rt, const Str& format, const Value& values) {
  return PercentFormatter(rt, format, values).Run();
}

Value FormatBraces(Runtime& rt, const Str& format, const Args& args) {
  return BraceFormatter(rt, args).Run(format, 0);
}

}  // namespace trireme::jinja
