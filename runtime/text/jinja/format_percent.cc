// printf-style formatting.
#include <algorithm>
#include <cmath>

#include "runtime/base/strings.h"
#include "runtime/text/jinja/format.h"
#include "runtime/text/jinja/format_spec.h"
#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme::jinja {
namespace {

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
      if (flag == '-')
        c.left = true;
      else if (flag == '0')
        c.zero = true;
      else if (flag == '#')
        c.alternate = true;
      else if (flag == '+')
        c.sign = '+';
      else if (flag == ' ')
        c.sign = c.sign == '+' ? '+' : ' ';
      else
        break;
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
      case 'c':
        return Character(spec, value);
      case 'd':
      case 'i':
      case 'u':
      case 'o':
      case 'x':
      case 'X':
        return Integer(c, spec, value);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        return Float(c, spec, value);
      default:
        rt_.Fail("unsupported format character");
    }
  }

  void Character(const Spec& spec, const Value& value) {
    if (value.is_string() && value.str().num_chars == 1) {
      return out_.Append(Pad(rt_, spec, '>', "", value).str());
    }
    const bool valid = value.is_integral() && value.integer() >= 0 && value.integer() < 0x110000 &&
                       value.integer() / 0x800 != 0x1B;
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
    const std::string digits =
        FormatFloat(std::abs(value.number()), c.type, static_cast<int>(c.precision), c.alternate);
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

}  // namespace

Value FormatPercent(Runtime& rt, const Str& format, const Value& values) {
  return PercentFormatter(rt, format, values).Run();
}

}  // namespace trireme::jinja
