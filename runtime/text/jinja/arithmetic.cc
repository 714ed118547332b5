// + - * / // % ** and the unary minus.
#include <cmath>

#include "runtime/base/strings.h"
#include "runtime/text/jinja/format.h"
#include "runtime/text/jinja/operators.h"

namespace trireme::jinja {
namespace {

Value IntegerPower(Runtime& rt, int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) rt.Fail("0.0 cannot be raised to a negative power");
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  while (true) {
    if (exponent & 1) {
      if (__builtin_mul_overflow(result, base, &result)) rt.Fail("integer overflow");
    }
    exponent >>= 1;
    if (exponent == 0) return Value::Int(result);
    if (__builtin_mul_overflow(base, base, &base)) rt.Fail("integer overflow");
  }
}

Value IntegerArithmetic(Runtime& rt, BinaryOp op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case BinaryOp::kAdd:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case BinaryOp::kSub:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case BinaryOp::kMul:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case BinaryOp::kDiv:
      if (b == 0) rt.Fail("division by zero");
      return Value::Float(static_cast<double>(a) / static_cast<double>(b));
    case BinaryOp::kFloorDiv:
    case BinaryOp::kMod: {
      if (b == 0) rt.Fail("division by zero");
      if (b == -1) {  // the one division that can overflow
        if (op == BinaryOp::kMod) return Value::Int(0);
        return Negate(rt, Value::Int(a));
      }
      int64_t quotient = a / b, remainder = a % b;
      if (remainder != 0 && (remainder < 0) != (b < 0)) {  // Python rounds towards minus infinity
        --quotient;
        remainder += b;
      }
      return Value::Int(op == BinaryOp::kMod ? remainder : quotient);
    }
    case BinaryOp::kPow:
      return IntegerPower(rt, a, b);
  }
  if (overflow) rt.Fail("integer overflow");
  return Value::Int(result);
}

Value FloatArithmetic(Runtime& rt, BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::kAdd:
      return Value::Float(a + b);
    case BinaryOp::kSub:
      return Value::Float(a - b);
    case BinaryOp::kMul:
      return Value::Float(a * b);
    case BinaryOp::kDiv:
      if (b == 0) rt.Fail("division by zero");
      return Value::Float(a / b);
    case BinaryOp::kFloorDiv:
    case BinaryOp::kMod: {
      if (b == 0) rt.Fail("division by zero");
      double remainder = std::fmod(a, b);
      if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
      if (op == BinaryOp::kMod) {
        return Value::Float(remainder == 0 ? std::copysign(0.0, b) : remainder);
      }
      return Value::Float(std::floor((a - remainder) / b + 0.5));
    }
    case BinaryOp::kPow: {
      if (a == 0 && b < 0) rt.Fail("0.0 cannot be raised to a negative power");
      const double result = std::pow(a, b);
      if (std::isnan(result) && !std::isnan(a) && !std::isnan(b)) rt.Fail("complex result");
      if (std::isinf(result) && !std::isinf(a) && !std::isinf(b)) rt.Fail("result too large");
      return Value::Float(result);
    }
  }
  return Value::Float(0);
}

Value ConcatLists(Runtime& rt, const List& a, const List& b) {
  rt.Charge(a.items.size() + b.items.size());
  Values items = rt.NewValues();
  items.reserve(a.items.size() + b.items.size());
  items.insert(items.end(), a.items.begin(), a.items.end());
  items.insert(items.end(), b.items.begin(), b.items.end());
  return rt.NewList(std::move(items), a.kind);
}

Value RepeatList(Runtime& rt, const List& list, int64_t times) {
  Values items = rt.NewValues();
  if (times > 0 && !list.items.empty()) {
    if (static_cast<uint64_t>(times) > rt.limits().max_steps / list.items.size()) {
      rt.Exhausted("list items");
    }
    rt.Charge(list.items.size() * static_cast<uint64_t>(times));
    for (int64_t i = 0; i < times; ++i) {
      items.insert(items.end(), list.items.begin(), list.items.end());
    }
  }
  return rt.NewList(std::move(items), list.kind);
}

Value AddStrings(Runtime& rt, const Value& a, const Value& b) {
  if (a.str().markup == b.str().markup) return Concat(rt, a.str(), b.str());
  const Value left = Escape(rt, a), right = Escape(rt, b);  // markup escapes what joins it
  return Concat(rt, left.str(), right.str());
}

}  // namespace

Value Arithmetic(Runtime& rt, BinaryOp op, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    return IntegerArithmetic(rt, op, a.integer(), b.integer());
  }
  if (a.is_number() && b.is_number()) return FloatArithmetic(rt, op, a.number(), b.number());
  if (op == BinaryOp::kMod && a.is_string()) return FormatPercent(rt, a.str(), b);
  if (a.is_undefined()) rt.FailUndefined(a);
  if (b.is_undefined()) rt.FailUndefined(b);
  if (op == BinaryOp::kAdd) {
    if (a.is_string() && b.is_string()) return AddStrings(rt, a, b);
    if (IsListOrTuple(a) && IsListOrTuple(b) && a.list().kind == b.list().kind) {
      return ConcatLists(rt, a.list(), b.list());
    }
  }
  if (op == BinaryOp::kMul) {
    if (a.is_string() && b.is_integral()) return Repeat(rt, a.str(), b.integer());
    if (b.is_string() && a.is_integral()) return Repeat(rt, b.str(), a.integer());
    if (IsListOrTuple(a) && b.is_integral()) return RepeatList(rt, a.list(), b.integer());
    if (IsListOrTuple(b) && a.is_integral()) return RepeatList(rt, b.list(), a.integer());
  }
  static constexpr std::string_view kNames[] = {"+", "-", "*", "/", "//", "%", "**"};
  rt.Fail(StrCat("unsupported operand types for ", kNames[static_cast<size_t>(op)], ": ",
                 TypeName(a), " and ", TypeName(b)));
}

Value Negate(Runtime& rt, const Value& value) {
  if (value.is(Type::kFloat)) return Value::Float(-value.number());
  if (value.is_undefined()) rt.FailUndefined(value);
  if (!value.is_integral()) rt.Fail(StrCat("bad operand type for unary -: ", TypeName(value)));
  if (value.integer() == INT64_MIN) rt.Fail("integer overflow");
  return Value::Int(-value.integer());
}

}  // namespace trireme::jinja
