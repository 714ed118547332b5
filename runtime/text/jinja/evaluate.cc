// Expressions.
#include "runtime/base/strings.h"
#include "runtime/text/jinja/interpreter.h"

namespace trireme::jinja {

Value Interpreter::Evaluate(const Expr& expr, Scope* scope) {
  DepthGuard guard(rt_);
  rt_.Charge(1);
  switch (expr.kind) {
    case ExprKind::kConst:
      return static_cast<const ConstExpr&>(expr).value;
    case ExprKind::kName:
      return EvaluateName(static_cast<const NameExpr&>(expr), scope);
    case ExprKind::kList:
    case ExprKind::kTuple:
      return EvaluateSequence(static_cast<const SequenceExpr&>(expr), scope);
    case ExprKind::kDict:
      return EvaluateDict(static_cast<const DictExpr&>(expr), scope);
    case ExprKind::kConcat:
      return EvaluateConcat(static_cast<const SequenceExpr&>(expr), scope);
    case ExprKind::kCompare:
      return EvaluateCompare(static_cast<const CompareExpr&>(expr), scope);
    case ExprKind::kConditional:
      return EvaluateConditional(static_cast<const ConditionalExpr&>(expr), scope);
    case ExprKind::kItem:
      return EvaluateItem(static_cast<const ItemExpr&>(expr), scope);
    case ExprKind::kCall:
      return EvaluateCall(static_cast<const CallExpr&>(expr), scope, nullptr);
    case ExprKind::kFilter:
    case ExprKind::kTest:
      return EvaluateFilter(expr, scope, Value::Missing());
    case ExprKind::kSlice:
      break;  // only inside kItem
    case ExprKind::kNot:
      return Value::Bool(!Truthy(Evaluate(*static_cast<const UnaryExpr&>(expr).operand, scope)));
    case ExprKind::kNegate:
    case ExprKind::kPositive: {
      const Value value = Evaluate(*static_cast<const UnaryExpr&>(expr).operand, scope);
      rt_.set_position(expr.position);
      if (expr.kind == ExprKind::kNegate) return Negate(rt_, value);
      if (value.is_undefined()) rt_.FailUndefined(value);
      if (!value.is_number()) rt_.Fail(StrCat("bad operand type for unary +: ", TypeName(value)));
      return value.is(Type::kBool) ? Value::Int(value.integer()) : value;
    }
    case ExprKind::kAnd:
    case ExprKind::kOr: {
      const auto& binary = static_cast<const BinaryExpr&>(expr);
      const Value left = Evaluate(*binary.left, scope);
      return Truthy(left) == (expr.kind == ExprKind::kAnd) ? Evaluate(*binary.right, scope) : left;
    }
    case ExprKind::kBinary: {
      const auto& binary = static_cast<const BinaryExpr&>(expr);
      const Value left = Evaluate(*binary.left, scope);
      const Value right = Evaluate(*binary.right, scope);
      rt_.set_position(expr.position);
      return Arithmetic(rt_, binary.op, left, right);
    }
    case ExprKind::kAttribute: {
      const auto& attribute = static_cast<const AttributeExpr&>(expr);
      const Value object = Evaluate(*attribute.object, scope);
      rt_.set_position(expr.position);
      return GetAttribute(rt_, object, *attribute.name);
    }
  }
  return Value::Undefined();
}

Value Interpreter::EvaluateName(const NameExpr& expr, Scope* scope) {
  for (const Scope* s = scope; s != nullptr; s = s->parent) {
    rt_.Charge(1 + s->variables.size() / 16);
    for (const auto& [symbol, value] : s->variables) {
      if (symbol == expr.name) return value;
    }
  }
  return Value::Undefined(tree_.names[expr.name]);
}

Value Interpreter::EvaluateSequence(const SequenceExpr& expr, Scope* scope) {
  Values items = rt_.NewValues();
  items.reserve(expr.items.size());
  for (const Expr* item : expr.items) items.push_back(Evaluate(*item, scope));
  return rt_.NewList(std::move(items),
                     expr.kind == ExprKind::kTuple ? ListKind::kTuple : ListKind::kList);
}

Value Interpreter::EvaluateDict(const DictExpr& expr, Scope* scope) {
  Dict* dict = rt_.NewDict();
  for (const auto& [key_expr, value_expr] : expr.items) {
    const Value key = Evaluate(*key_expr, scope);
    rt_.set_position(expr.position);
    if (!IsHashable(rt_, key)) rt_.Fail(StrCat("unhashable type: ", TypeName(key)));
    dict->Set(key, Evaluate(*value_expr, scope));
  }
  return Value::Of(dict);
}

Value Interpreter::EvaluateConcat(const SequenceExpr& expr, Scope* scope) {
  TextBuilder out(rt_);
  for (const Expr* item : expr.items) AppendStr(rt_, Evaluate(*item, scope), &out);
  return out.Finish();
}

Value Interpreter::EvaluateCompare(const CompareExpr& expr, Scope* scope) {
  Value left = Evaluate(*expr.first, scope);
  for (const auto& [op, operand] : expr.rest) {
    const Value right = Evaluate(*operand, scope);
    rt_.set_position(expr.position);
    bool holds = false;
    switch (op) {
      case CompareOp::kEq:
        holds = Equal(rt_, left, right);
        break;
      case CompareOp::kNe:
        holds = !Equal(rt_, left, right);
        break;
      case CompareOp::kLt:
        holds = Less(rt_, left, right);
        break;
      case CompareOp::kLe:
        holds = LessOrEqual(rt_, left, right);
        break;
      case CompareOp::kGt:
        holds = Less(rt_, right, left);
        break;
      case CompareOp::kGe:
        holds = LessOrEqual(rt_, right, left);
        break;
      case CompareOp::kIn:
        holds = Contains(rt_, right, left);
        break;
      case CompareOp::kNotIn:
        holds = !Contains(rt_, right, left);
        break;
    }
    if (!holds) return Value::Bool(false);
    left = right;
  }
  return Value::Bool(true);
}

Value Interpreter::EvaluateConditional(const ConditionalExpr& expr, Scope* scope) {
  if (Truthy(Evaluate(*expr.test, scope))) return Evaluate(*expr.then, scope);
  return expr.otherwise != nullptr ? Evaluate(*expr.otherwise, scope) : Value::Undefined();
}

Value Interpreter::EvaluateItem(const ItemExpr& expr, Scope* scope) {
  const Value object = Evaluate(*expr.object, scope);
  if (expr.key->kind != ExprKind::kSlice) {
    const Value key = Evaluate(*expr.key, scope);
    rt_.set_position(expr.position);
    return GetItem(rt_, object, key);
  }
  const auto& slice = static_cast<const SliceExpr&>(*expr.key);
  const auto part = [&](const Expr* e) { return e ? Evaluate(*e, scope) : Value::Missing(); };
  const Value start = part(slice.start), stop = part(slice.stop), step = part(slice.step);
  rt_.set_position(expr.position);
  return GetSlice(rt_, object, start, stop, step);
}

Value Interpreter::EvaluateFilter(const Expr& expr, Scope* scope, const Value& piped) {
  DepthGuard guard(rt_);
  const auto& filter = static_cast<const BuiltinExpr&>(expr);
  Value input = piped;
  if (filter.input != nullptr) {
    // Below a block's body the chain continues with `piped`; elsewhere the input is any expression.
    input = piped.is_missing() ? Evaluate(*filter.input, scope)
                               : EvaluateFilter(*filter.input, scope, piped);
  }
  const Args args = EvaluateArgs(filter.args, scope);
  rt_.set_position(expr.position);
  return filter.builtin->fn(rt_, input, args);
}

Args Interpreter::EvaluateArgs(const CallArgs& call, Scope* scope) {
  Args args;
  for (const Expr* expr : call.positional) args.positional.push_back(Evaluate(*expr, scope));
  for (const auto& [name, expr] : call.named) args.named.emplace_back(name, Evaluate(*expr, scope));
  if (call.more_positional != nullptr) {
    for (const Value& value : Iterate(rt_, Evaluate(*call.more_positional, scope))) {
      args.positional.push_back(value);
    }
  }
  if (call.more_named != nullptr) {
    const Value more = Evaluate(*call.more_named, scope);
    if (!more.is(Type::kDict)) rt_.Fail("arguments after ** must be a mapping");
    for (const Dict::Entry& entry : more.dict().entries()) {
      rt_.Charge(1);
      if (!entry.key.is_string()) rt_.Fail("keywords must be strings");
      args.named.emplace_back(&entry.key.str(), entry.value);
    }
  }
  return args;
}

}  // namespace trireme::jinja
