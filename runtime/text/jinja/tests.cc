// What may follow `is`.
#include <cmath>

#include "runtime/text/jinja/args.h"

namespace trireme::jinja {
namespace {

template <bool (*predicate)(const Value&)>
Value Is(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return Value::Bool(predicate(self));
}

bool IsDefined(const Value& v) { return !v.is_undefined(); }
bool IsUndefined(const Value& v) { return v.is_undefined(); }
bool IsNone(const Value& v) { return v.is_none(); }
bool IsBoolean(const Value& v) { return v.is(Type::kBool); }
bool IsTrue(const Value& v) { return v.is(Type::kBool) && v.boolean(); }
bool IsFalse(const Value& v) { return v.is(Type::kBool) && !v.boolean(); }
bool IsInteger(const Value& v) { return v.is(Type::kInt); }
bool IsFloat(const Value& v) { return v.is(Type::kFloat); }
bool IsNumber(const Value& v) { return v.is_number(); }
bool IsString(const Value& v) { return v.is_string(); }
bool IsMapping(const Value& v) { return v.is(Type::kDict); }
bool IsEscaped(const Value& v) { return v.is_string() && v.str().markup; }
bool IsIterable(const Value& v) {
  return v.is_undefined() || v.is_string() || v.is(Type::kList) || v.is(Type::kDict) ||
         v.is(Type::kLoop);
}
bool IsSequence(const Value& v) {
  return v.is_undefined() || v.is_string() || v.is(Type::kDict) ||
         (v.is(Type::kList) && v.list().indexable());
}
bool IsCallable(const Value& v) {
  return v.is_undefined() || v.is(Type::kMacro) || v.is(Type::kFunction) || v.is(Type::kLoop);
}

template <bool upper>
Value CaseTest(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return FindStringMethod(upper ? "isupper" : "islower")->fn(rt, ToStr(rt, self), args);
}

enum class Order { kEq, kNe, kLt, kLe, kGt, kGe, kIn };

template <Order order>
Value Compare(Runtime& rt, const Value& self, const Args& args) {
  const auto [other] = Bind(rt, args, {"other"}, 1);
  switch (order) {
    case Order::kEq:
      return Value::Bool(Equal(rt, self, other));
    case Order::kNe:
      return Value::Bool(!Equal(rt, self, other));
    case Order::kLt:
      return Value::Bool(Less(rt, self, other));
    case Order::kLe:
      return Value::Bool(LessOrEqual(rt, self, other));
    case Order::kGt:
      return Value::Bool(Less(rt, other, self));
    case Order::kGe:
      return Value::Bool(LessOrEqual(rt, other, self));
    case Order::kIn:
      return Value::Bool(Contains(rt, other, self));
  }
  return Value::Bool(false);
}

Value SameAs(Runtime& rt, const Value& self, const Args& args) {
  const auto [other] = Bind(rt, args, {"other"}, 1);
  ChargeKey(rt, self);
  return Value::Bool(Identical(self, other));
}

bool DividesEvenly(Runtime& rt, const Value& self, const Value& divisor, int64_t remainder) {
  return Equal(rt, Arithmetic(rt, BinaryOp::kMod, self, divisor), Value::Int(remainder));
}

Value DivisibleBy(Runtime& rt, const Value& self, const Args& args) {
  const auto [divisor] = Bind(rt, args, {"num"}, 1);
  return Value::Bool(DividesEvenly(rt, self, divisor, 0));
}

template <int64_t remainder>
Value Parity(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return Value::Bool(DividesEvenly(rt, self, Value::Int(2), remainder));
}

Value IsFilterName(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return Value::Bool(self.is_string() && FindFilter(self.str().bytes) != nullptr);
}

Value IsTestName(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return Value::Bool(self.is_string() && FindTest(self.str().bytes) != nullptr);
}

constexpr Builtin kTests[] = {
    {"!=", Compare<Order::kNe>},
    {"<", Compare<Order::kLt>},
    {"<=", Compare<Order::kLe>},
    {"==", Compare<Order::kEq>},
    {">", Compare<Order::kGt>},
    {">=", Compare<Order::kGe>},
    {"boolean", Is<IsBoolean>},
    {"callable", Is<IsCallable>},
    {"defined", Is<IsDefined>},
    {"divisibleby", DivisibleBy},
    {"eq", Compare<Order::kEq>},
    {"equalto", Compare<Order::kEq>},
    {"escaped", Is<IsEscaped>},
    {"even", Parity<0>},
    {"false", Is<IsFalse>},
    {"filter", IsFilterName},
    {"float", Is<IsFloat>},
    {"ge", Compare<Order::kGe>},
    {"greaterthan", Compare<Order::kGt>},
    {"gt", Compare<Order::kGt>},
    {"in", Compare<Order::kIn>},
    {"integer", Is<IsInteger>},
    {"iterable", Is<IsIterable>},
    {"le", Compare<Order::kLe>},
    {"lessthan", Compare<Order::kLt>},
    {"lower", CaseTest<false>},
    {"lt", Compare<Order::kLt>},
    {"mapping", Is<IsMapping>},
    {"ne", Compare<Order::kNe>},
    {"none", Is<IsNone>},
    {"number", Is<IsNumber>},
    {"odd", Parity<1>},
    {"sameas", SameAs},
    {"sequence", Is<IsSequence>},
    {"string", Is<IsString>},
    {"test", IsTestName},
    {"true", Is<IsTrue>},
    {"undefined", Is<IsUndefined>},
    {"upper", CaseTest<true>},
};

}  // namespace

const Builtin* FindTest(std::string_view name) { return FindIn(kTests, name); }

}  // namespace trireme::jinja
