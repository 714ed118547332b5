// str() and repr().
#include <charconv>
#include <cmath>

#include "runtime/base/strings.h"
#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme::jinja {
namespace {

void AppendEscaped(char32_t c, char quote, std::string* out) {
  static constexpr char kHex[] = "0123456789abcdef";
  const auto hex = [&](char prefix, int digits) {
    out->push_back('\\');
    out->push_back(prefix);
    for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) out->push_back(kHex[c >> shift & 15]);
  };
  switch (c) {
    case '\n': out->append("\\n"); return;
    case '\r': out->append("\\r"); return;
    case '\t': out->append("\\t"); return;
    case '\\': out->append("\\\\"); return;
    default: break;
  }
  if (c == static_cast<char32_t>(quote)) {
    out->push_back('\\');
    out->push_back(quote);
  } else if (IsPrintable(c)) {
    AppendChar(c, out);
  } else if (c <= 0xFF) {
    hex('x', 2);
  } else if (c <= 0xFFFF) {
    hex('u', 4);
  } else {
    hex('U', 8);
  }
}

void AppendStringRepr(const Str& text, TextBuilder* out) {
  const bool has_single = text.bytes.find('\'') != std::string_view::npos;
  const bool has_double = text.bytes.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  const std::string_view quotes(&quote, 1);
  if (text.markup) out->Append("Markup(");
  out->Append(quotes);
  ForEachPiece(text, [&](size_t begin, size_t end, bool user) {
    std::string escaped;
    for (size_t pos = begin; pos < end;) {
      AppendEscaped(NextChar(text.bytes, &pos), quote, &escaped);
    }
    out->Append(escaped, user);
  });
  out->Append(quotes);
  if (text.markup) out->Append(")");
}

void AppendItems(Runtime& rt, const Values& items, std::string_view open, std::string_view close,
                 TextBuilder* out) {
  out->Append(open);
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out->Append(", ");
    AppendRepr(rt, items[i], out);
  }
  out->Append(close);
}

void AppendList(Runtime& rt, const List& list, TextBuilder* out) {
  switch (list.kind) {
    case ListKind::kList: return AppendItems(rt, list.items, "[", "]", out);
    case ListKind::kTuple:
      return AppendItems(rt, list.items, "(", list.items.size() == 1 ? ",)" : ")", out);
    case ListKind::kKeys: return AppendItems(rt, list.items, "dict_keys([", "])", out);
    case ListKind::kValues: return AppendItems(rt, list.items, "dict_values([", "])", out);
    case ListKind::kItems: return AppendItems(rt, list.items, "dict_items([", "])", out);
    case ListKind::kGenerator: return out->Append("<generator object>");
    case ListKind::kRange: break;
  }
  // Ranges are made as a list of their numbers; bounds follow from the first numbers.
  const size_t n = list.items.size();
  const int64_t start = n > 0 ? list.items[0].integer() : 0;
  const int64_t step = n > 1 ? list.items[1].integer() - start : 1;
  const int64_t stop = n > 0 ? list.items[n - 1].integer() + (step > 0 ? 1 : -1) : 0;
  out->Append(StrCat("range(", start, ", ", stop, step == 1 ? "" : StrCat(", ", step), ")"));
}

void AppendDict(Runtime& rt, const Dict& dict, TextBuilder* out) {
  out->Append("{");
  bool first = true;
  for (const Dict::Entry& entry : dict.entries()) {
    if (!first) out->Append(", ");
    first = false;
    AppendRepr(rt, entry.key, out);
    out->Append(": ");
    AppendRepr(rt, entry.value, out);
  }
  out->Append("}");
}

}  // namespace

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[40];
  // Shortest digits that read back as the same number: d.ddde[+-]xx.
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string_view text(buffer, static_cast<size_t>(end.ptr - buffer));
  std::string out;
  if (text[0] == '-') {
    out = "-";
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  std::string digits(1, text[0]);
  if (e > 2) digits.append(text.substr(2, e - 2));
  int exponent = 0;
  const size_t sign = text[e + 1] == '+' ? 2 : 1;
  std::from_chars(text.data() + e + sign, text.data() + text.size(), exponent);
  if (exponent < -4 || exponent >= 16) {  // Python's switch to exponents
    out.append(digits, 0, 1);
    if (digits.size() > 1) out.append(".").append(digits, 1);
    out.append(exponent < 0 ? "e-" : "e+");
    const int magnitude = std::abs(exponent);
    if (magnitude < 10) out.append("0");
    return out.append(std::to_string(magnitude));
  }
  if (exponent < 0) return out.append("0.").append(static_cast<size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return out + digits.append(whole - digits.size(), '0') + ".0";
  return out.append(digits, 0, whole).append(".").append(digits, whole);
}

void AppendRepr(Runtime& rt, const Value& value, TextBuilder* out) {
  DepthGuard guard(rt);
  rt.Charge(1);
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined: return out->Append("Undefined");
    case Type::kNone: return out->Append("None");
    case Type::kBool: return out->Append(value.boolean() ? "True" : "False");
    case Type::kInt: return out->Append(std::to_string(value.integer()));
    case Type::kFloat: return out->Append(FloatRepr(value.number()));
    case Type::kString: return AppendStringRepr(value.str(), out);
    case Type::kList: return AppendList(rt, value.list(), out);
    case Type::kDict: return AppendDict(rt, value.dict(), out);
    case Type::kNamespace:
      out->Append("<Namespace ");
      AppendDict(rt, value.ns().attributes, out);
      return out->Append(">");
    default: return out->Append(StrCat("<", TypeName(value), ">"));
  }
}

void AppendStr(Runtime& rt, const Value& value, TextBuilder* out) {
  if (value.is_string()) {
    out->Append(value.str());
  } else if (!value.is_undefined()) {
    AppendRepr(rt, value, out);
  }
}

Value ToStr(Runtime& rt, const Value& value) {
  if (value.is_string()) return value;
  TextBuilder out(rt);
  AppendStr(rt, value, &out);
  return out.Finish();
}

}  // namespace trireme::jinja
