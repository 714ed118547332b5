// Filters on numbers and on any value, and the table of all filters.
#include <charconv>
#include <cmath>
#include <optional>

#include "absl/strings/numbers.h"
#include "runtime/text/jinja/args.h"
#include "runtime/text/jinja/format.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme::jinja {
namespace {

// Without surrounding white space and single underscores between digits, as int() and float() read.
std::string NumberText(std::string_view text) {
  size_t begin, end;
  TrimSpace(text, true, true, &begin, &end);
  text = text.substr(begin, end - begin);
  const auto alnum = [&](size_t i) {
    return i < text.size() && IsAlnum(static_cast<unsigned char>(text[i]) & 0x7F);
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_' || i == 0 || !alnum(i - 1) || !alnum(i + 1)) out.push_back(text[i]);
  }
  return out;
}

std::optional<double> ParseFloat(std::string_view text) {
  const std::string digits = NumberText(text);
  double value = 0;
  if (!absl::SimpleAtod(digits, &value)) return std::nullopt;
  return value;
}

// nullopt: not a number; fails when out of the 64-bit range.
std::optional<int64_t> ParseInt(Runtime& rt, std::string_view text, int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) rt.Fail("int() base must be >= 2 and <= 36, or 0");
  const std::string owned = NumberText(text);
  std::string_view digits = owned;
  const bool negative = !digits.empty() && digits[0] == '-';
  if (!digits.empty() && (digits[0] == '-' || digits[0] == '+')) digits.remove_prefix(1);
  if (digits.size() > 2 && digits[0] == '0') {
    const char prefix = static_cast<char>(digits[1] | 0x20);
    const int prefix_base = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 0;
    if (prefix_base != 0 && (base == 0 || base == prefix_base)) {
      base = prefix_base;
      digits.remove_prefix(2);
    }
  }
  uint64_t magnitude = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), magnitude,
                                            base == 0 ? 10 : static_cast<int>(base));
  if (error == std::errc::invalid_argument || end != digits.data() + digits.size()) {
    return std::nullopt;
  }
  const uint64_t limit = uint64_t{INT64_MAX} + (negative ? 1 : 0);
  if (error == std::errc::result_out_of_range || magnitude > limit) rt.Fail("integer overflow");
  return static_cast<int64_t>(negative ? uint64_t{0} - magnitude : magnitude);
}

std::optional<int64_t> Truncate(Runtime& rt, double value) {
  if (std::isnan(value)) return std::nullopt;
  if (std::abs(value) >= 9.2e18) rt.Fail("integer overflow");
  return static_cast<int64_t>(value);
}

Value IntFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [otherwise, base] = Bind(rt, args, {"default", "base"});
  if (self.is_undefined()) rt.FailUndefined(self);
  std::optional<int64_t> number;
  if (self.is_integral()) {
    number = self.integer();
  } else if (self.is(Type::kFloat)) {
    number = Truncate(rt, self.number());
  } else if (self.is_string()) {
    rt.ChargeBytes(self.str().bytes.size());
    number = ParseInt(rt, self.str().bytes, IntArg(rt, base, 10));
    if (!number) {  // "42.23" is 42
      const auto value = ParseFloat(self.str().bytes);
      if (value && std::isfinite(*value)) number = Truncate(rt, *value);
    }
  }
  if (number) return Value::Int(*number);
  return otherwise.is_missing() ? Value::Int(0) : otherwise;
}

Value FloatFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [otherwise] = Bind(rt, args, {"default"});
  if (self.is_undefined()) rt.FailUndefined(self);
  if (self.is_number()) return Value::Float(self.number());
  if (self.is_string()) {
    rt.ChargeBytes(self.str().bytes.size());
    if (const auto value = ParseFloat(self.str().bytes)) return Value::Float(*value);
  }
  return otherwise.is_missing() ? Value::Float(0) : otherwise;
}

Value AbsFilter(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  if (self.is_undefined()) rt.FailUndefined(self);
  if (self.is(Type::kFloat)) return Value::Float(std::abs(self.number()));
  if (!self.is_integral()) rt.Fail(StrCat("bad operand type for abs(): ", TypeName(self)));
  return self.integer() < 0 ? Negate(rt, self) : Value::Int(self.integer());
}

// round() of Python: half to even on the exact decimal value.
double RoundTo(double value, int64_t precision) {
  if (!std::isfinite(value) || precision > 22) return value;
  if (precision >= 0) {
    const std::string text = FormatFloat(value, 'f', static_cast<int>(precision), false);
    double rounded = value;
    return absl::SimpleAtod(text, &rounded) ? rounded : value;
  }
  if (precision < -308) return std::copysign(0.0, value);
  const double scale = std::pow(10.0, static_cast<double>(-precision));
  return std::nearbyint(value / scale) * scale;
}

Value RoundFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [precision_arg, method_arg] = Bind(rt, args, {"precision", "method"});
  const int64_t precision = IntArg(rt, precision_arg, 0);
  const std::string_view method = method_arg.is_missing() ? "common" : StrArg(rt, method_arg).bytes;
  if (self.is_undefined()) rt.FailUndefined(self);
  if (!self.is_number()) rt.Fail(StrCat("cannot round a value of type ", TypeName(self)));
  if (method == "common") {
    if (!self.is_integral()) return Value::Float(RoundTo(self.number(), precision));
    if (precision >= 0) return Value::Int(self.integer());
    const std::optional<int64_t> rounded =
        Truncate(rt, RoundTo(static_cast<double>(self.integer()), precision));
    return Value::Int(rounded.value_or(0));
  }
  if (method != "floor" && method != "ceil") rt.Fail("method must be common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = self.number() * scale;
  return Value::Float((method == "floor" ? std::floor(scaled) : std::ceil(scaled)) / scale);
}

Value DefaultFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [otherwise, boolean] = Bind(rt, args, {"default_value", "boolean"});
  const bool replace = self.is_undefined() || (BoolArg(boolean, false) && !Truthy(self));
  if (!replace) return self;
  return otherwise.is_missing() ? rt.NewString("") : otherwise;
}

Value AttrFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [name] = Bind(rt, args, {"name"}, 1);
  const Value found = OwnAttribute(rt, self, ToStr(rt, name).str().bytes);
  return found.is_missing() ? Value::Undefined() : found;
}

constexpr Builtin kFilters[] = {
    {"abs", AbsFilter},         {"attr", AttrFilter},   {"d", DefaultFilter},
    {"default", DefaultFilter}, {"float", FloatFilter}, {"int", IntFilter},
    {"round", RoundFilter},     {"tojson", ToJson},
};

}  // namespace

const Builtin* FindValueFilter(std::string_view name) { return FindIn(kFilters, name); }

const Builtin* FindFilter(std::string_view name) {
  if (const Builtin* filter = FindTextFilter(name)) return filter;
  if (const Builtin* filter = FindSequenceFilter(name)) return filter;
  return FindValueFilter(name);
}

}  // namespace trireme::jinja
