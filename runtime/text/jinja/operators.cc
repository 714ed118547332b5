#include "runtime/text/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/hash/hash.h"
#include "runtime/base/strings.h"
#include "runtime/text/jinja/loop.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme::jinja {
namespace {

// Numbers compare exactly: a large integer is not rounded to a double first.
int CompareIntFloat(int64_t a, double b) {
  if (b >= 9223372036854775808.0) return -1;
  if (b < -9223372036854775808.0) return 1;
  const auto whole = static_cast<int64_t>(b);
  if (a != whole) return a < whole ? -1 : 1;
  const double fraction = b - static_cast<double>(whole);
  return fraction > 0 ? -1 : fraction < 0 ? 1 : 0;
}

bool NumbersEqual(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
  if (!a.is_integral() && !b.is_integral()) return a.number() == b.number();
  const Value& i = a.is_integral() ? a : b;
  const Value& f = a.is_integral() ? b : a;
  return !std::isnan(f.number()) && CompareIntFloat(i.integer(), f.number()) == 0;
}

bool NumbersLess(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.integer() < b.integer();
  if (!a.is_integral() && !b.is_integral()) return a.number() < b.number();
  if (std::isnan(a.number()) || std::isnan(b.number())) return false;
  if (a.is_integral()) return CompareIntFloat(a.integer(), b.number()) < 0;
  return CompareIntFloat(b.integer(), a.number()) > 0;
}

bool ListsEqual(Runtime& rt, const List& a, const List& b) {
  if (&a == &b) return true;
  if (a.kind != b.kind || a.items.size() != b.items.size() || !a.indexable()) return false;
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (!Equal(rt, a.items[i], b.items[i])) return false;
  }
  return true;
}

bool DictsEqual(Runtime& rt, const Dict& a, const Dict& b) {
  if (a.size() != b.size()) return false;
  for (const Dict::Entry& entry : a.entries()) {
    ChargeKey(rt, entry.key);
    const Value* other = b.Find(entry.key);
    if (other == nullptr || !Equal(rt, entry.value, *other)) return false;
  }
  return true;
}

}  // namespace

bool Truthy(const Value& value) {
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
    case Type::kNone:
      return false;
    case Type::kBool:
    case Type::kInt:
      return value.integer() != 0;
    case Type::kFloat:
      return value.number() != 0;
    case Type::kString:
      return !value.str().bytes.empty();
    case Type::kList:
      return !value.list().sized() || !value.list().items.empty();
    case Type::kDict:
      return value.dict().size() != 0;
    default:
      return true;
  }
}

bool Equal(Runtime& rt, const Value& a, const Value& b) {
  DepthGuard guard(rt);
  rt.Charge(1);
  if (a.is_number() && b.is_number()) return NumbersEqual(a, b);
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::kUndefined:
    case Type::kNone:
      return true;
    case Type::kString:
      if (a.str().bytes.size() != b.str().bytes.size()) return false;
      rt.ChargeBytes(a.str().bytes.size());
      return a.str().bytes == b.str().bytes;
    case Type::kList:
      return ListsEqual(rt, a.list(), b.list());
    case Type::kDict:
      return &a.dict() == &b.dict() || DictsEqual(rt, a.dict(), b.dict());
    case Type::kFunction:
      return a.function().builtin == b.function().builtin &&
             a.function().self.identity() == b.function().self.identity();
    default:
      return a.identity() == b.identity();
  }
}

bool Less(Runtime& rt, const Value& a, const Value& b) {
  DepthGuard guard(rt);
  rt.Charge(1);
  if (a.is_number() && b.is_number()) return NumbersLess(a, b);
  if (a.is_string() && b.is_string()) {
    rt.ChargeBytes(std::min(a.str().bytes.size(), b.str().bytes.size()));
    return a.str().bytes < b.str().bytes;  // UTF-8 keeps the order of code points
  }
  if (IsListOrTuple(a) && IsListOrTuple(b) && a.list().kind == b.list().kind) {
    const Values &x = a.list().items, &y = b.list().items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!Equal(rt, x[i], y[i])) return Less(rt, x[i], y[i]);
    }
    return x.size() < y.size();
  }
  if (a.is_undefined()) rt.FailUndefined(a);
  if (b.is_undefined()) rt.FailUndefined(b);
  rt.Fail(StrCat("cannot order ", TypeName(a), " and ", TypeName(b)));
}

bool LessOrEqual(Runtime& rt, const Value& a, const Value& b) {
  // Not "!(b < a)": comparisons with NaN are all false.
  return Less(rt, a, b) || Equal(rt, a, b);
}

bool Contains(Runtime& rt, const Value& container, const Value& item) {
  switch (container.type()) {
    case Type::kString:
      if (item.is_undefined()) rt.FailUndefined(item);
      if (!item.is_string()) rt.Fail("'in <string>' requires a string as left operand");
      return Find(rt, container.str().bytes, item.str().bytes) != std::string_view::npos;
    case Type::kDict:
      if (!IsHashable(rt, item)) rt.Fail(StrCat("unhashable type: ", TypeName(item)));
      return container.dict().Find(item) != nullptr;
    default:
      break;
  }
  for (const Value& candidate : Iterate(rt, container)) {
    if (Equal(rt, candidate, item)) return true;
  }
  return false;
}

bool Identical(const Value& a, const Value& b) {
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::kNone:
      return true;
    case Type::kBool:
    case Type::kInt:
      return a.integer() == b.integer();
    case Type::kFloat:
      return a.number() == b.number();
    case Type::kString:
      return a.str().bytes == b.str().bytes;
    default:
      return a.identity() == b.identity();
  }
}

void ChargeKey(Runtime& rt, const Value& key) {
  if (key.is_string()) rt.ChargeBytes(key.str().bytes.size());
  if (!key.is(Type::kList)) return;
  for (const Value& item : key.list().items) {
    rt.ChargeBytes(item.is_string() ? item.str().bytes.size() : 0);
  }
}

bool IsHashable(Runtime& rt, const Value& value) {
  ChargeKey(rt, value);
  if (value.is(Type::kDict)) return false;
  if (!value.is(Type::kList)) return true;
  if (value.list().kind == ListKind::kList) return false;
  if (value.list().kind != ListKind::kTuple) return true;
  // One level deep: a tuple of tuples would need a guarded recursion and no template has one as a
  // key.
  return std::all_of(value.list().items.begin(), value.list().items.end(),
                     [](const Value& v) { return !v.is(Type::kDict) && !v.is(Type::kList); });
}

size_t Hash(const Value& value) {
  switch (value.type()) {
    case Type::kString:
      return absl::HashOf(value.str().bytes);
    case Type::kBool:
    case Type::kInt:
      return absl::HashOf(value.integer());
    case Type::kFloat: {
      const double v = value.number();
      if (v == std::floor(v) && std::abs(v) < 9e18) return absl::HashOf(static_cast<int64_t>(v));
      return absl::HashOf(v);
    }
    case Type::kList: {
      if (value.list().kind != ListKind::kTuple) return absl::HashOf(value.identity());
      size_t hash = 1;
      for (const Value& item : value.list().items) hash = absl::HashOf(hash, Hash(item));
      return hash;
    }
    case Type::kNone:
    case Type::kUndefined:
      return absl::HashOf(static_cast<int>(value.type()));
    default:
      return absl::HashOf(value.identity());
  }
}

Values Iterate(Runtime& rt, const Value& value) {
  Values items = rt.NewValues();
  switch (value.type()) {
    case Type::kUndefined:
      break;
    case Type::kList: {
      List& list = value.list();
      rt.Charge(1 + list.items.size() - list.cursor);
      items.assign(list.items.begin() + static_cast<std::ptrdiff_t>(list.cursor), list.items.end());
      if (!list.sized()) list.cursor = list.items.size();
      break;
    }
    case Type::kDict:
      rt.Charge(1 + value.dict().size());
      items.reserve(value.dict().size());
      for (const Dict::Entry& entry : value.dict().entries()) items.push_back(entry.key);
      break;
    case Type::kString:
      items.reserve(value.str().num_chars);
      for (size_t pos = 0; pos < value.str().bytes.size();) {
        const size_t begin = pos;
        NextChar(value.str().bytes, &pos);
        items.push_back(Substring(rt, value.str(), begin, pos));
      }
      break;
    case Type::kLoop: {
      Value item;
      while (value.loop().Next(&item)) items.push_back(item);
      break;
    }
    default:
      rt.Fail(StrCat(TypeName(value), " is not iterable"));
  }
  return items;
}

int64_t Length(Runtime& rt, const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
      return 0;
    case Type::kString:
      return static_cast<int64_t>(value.str().num_chars);
    case Type::kDict:
      return static_cast<int64_t>(value.dict().size());
    case Type::kLoop:
      return value.loop().Length();
    case Type::kList:
      if (value.list().sized()) return static_cast<int64_t>(value.list().items.size());
      [[fallthrough]];
    default:
      rt.Fail(StrCat(TypeName(value), " has no length"));
  }
}

std::string_view TypeName(const Value& value) {
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
      return "undefined";
    case Type::kNone:
      return "none";
    case Type::kBool:
      return "boolean";
    case Type::kInt:
      return "integer";
    case Type::kFloat:
      return "float";
    case Type::kString:
      return "string";
    case Type::kList: {
      static constexpr std::string_view kNames[] = {
          "list", "tuple", "range", "dict keys", "dict values", "dict items", "generator"};
      return kNames[static_cast<size_t>(value.list().kind)];
    }
    case Type::kDict:
      return "dict";
    case Type::kNamespace:
      return "namespace";
    case Type::kLoop:
      return "loop";
    case Type::kMacro:
      return "macro";
    case Type::kFunction:
      return "function";
  }
  return "value";
}

}  // namespace trireme::jinja
