// Calls of macros, callers, loops and functions.
#include "runtime/base/strings.h"
#include "runtime/text/jinja/interpreter.h"

namespace trireme::jinja {
namespace {

constexpr std::string_view kCaller = "caller";
const Str kCallerName = {.bytes = kCaller, .num_chars = kCaller.size()};

const Value* FindNamed(const Args& args, std::string_view name) {
  for (const auto& [key, value] : args.named) {
    if (key->bytes == name) return &value;
  }
  return nullptr;
}

bool HasParameter(const Callable& callable, std::string_view name) {
  for (const Parameter& parameter : callable.parameters) {
    if (parameter.name->bytes == name) return true;
  }
  return false;
}

}  // namespace

Value Interpreter::EvaluateCall(const CallExpr& expr, Scope* scope, const Macro* caller) {
  const Value callee = Evaluate(*expr.callee, scope);
  Args args = EvaluateArgs(expr.args, scope);
  if (caller != nullptr) args.named.emplace_back(&kCallerName, Value::Of(caller));
  rt_.set_position(expr.position);
  switch (callee.type()) {
    case Type::kMacro:
      return CallMacro(callee.macro(), args);
    case Type::kFunction:
      return callee.function().builtin->fn(rt_, callee.function().self, args);
    case Type::kLoop:
      return CallLoop(callee.loop(), args);
    case Type::kUndefined:
      rt_.FailUndefined(callee);
    default:
      rt_.Fail(StrCat(TypeName(callee), " is not callable"));
  }
}

Value Interpreter::CallMacro(const Macro& macro, const Args& args) {
  DepthGuard guard(rt_);
  Scope* scope = NewScope(macro.closure);
  BindSpecials(*macro.callable, args, scope);
  BindParameters(*macro.callable, args, scope);
  TextBuilder out(rt_);
  Execute(macro.callable->body, scope, &out);
  return out.Finish();
}

void Interpreter::BindParameters(const Callable& callable, const Args& args, Scope* scope) {
  // Defaults see the parameters before them, so everything that was passed is bound first.
  for (size_t i = 0; i < callable.parameters.size(); ++i) {
    const Parameter& parameter = callable.parameters[i];
    rt_.Charge(1 + args.named.size());
    const Value* named = FindNamed(args, parameter.name->bytes);
    if (i < args.positional.size()) {
      if (named != nullptr) {
        rt_.Fail(StrCat("two values for the argument '", parameter.name->bytes, "'"));
      }
      AssignName(parameter.symbol, args.positional[i], scope);
    } else if (named != nullptr) {
      AssignName(parameter.symbol, *named, scope);
    } else if (parameter.otherwise == nullptr) {
      AssignName(parameter.symbol, Value::Undefined(parameter.name), scope);
    }
  }
  for (size_t i = args.positional.size(); i < callable.parameters.size(); ++i) {
    const Parameter& parameter = callable.parameters[i];
    rt_.Charge(1 + args.named.size());
    if (parameter.otherwise == nullptr || FindNamed(args, parameter.name->bytes)) continue;
    AssignName(parameter.symbol, Evaluate(*parameter.otherwise, scope), scope);
  }
}

// `caller`, `kwargs` and `varargs`: what was passed beyond the parameters, for macros that mention
// them.
void Interpreter::BindSpecials(const Callable& callable, const Args& args, Scope* scope) {
  const auto bind = [&](std::string_view name, const Value& value) {
    const auto symbol = tree_.symbols.find(name);
    if (symbol != tree_.symbols.end()) AssignName(symbol->second, value, scope);
  };
  const bool takes_caller = callable.uses_caller && !HasParameter(callable, kCaller);
  if (takes_caller) {
    const Value* caller = FindNamed(args, kCaller);
    bind(kCaller, caller != nullptr ? *caller : Value::Undefined());
  }
  Dict* kwargs = rt_.NewDict();
  for (const auto& [name, value] : args.named) {
    rt_.Charge(1 + callable.parameters.size());
    if (HasParameter(callable, name->bytes) || (takes_caller && name->bytes == kCaller)) continue;
    if (!callable.uses_kwargs) {
      rt_.Fail(StrCat("the macro takes no keyword argument '",
                      name->num_user == 0 ? name->bytes : std::string_view("..."), "'"));
    }
    kwargs->Set(Value::String(name), value);
  }
  if (callable.uses_kwargs) bind("kwargs", Value::Of(kwargs));
  Values rest = rt_.NewValues();
  for (size_t i = callable.parameters.size(); i < args.positional.size(); ++i) {
    rest.push_back(args.positional[i]);
  }
  if (callable.uses_varargs) return bind("varargs", rt_.NewList(std::move(rest), ListKind::kTuple));
  if (!rest.empty()) {
    rt_.Fail(StrCat("the macro takes not more than ", callable.parameters.size(), " arguments"));
  }
}

Value Interpreter::CallLoop(Loop& loop, const Args& args) {
  DepthGuard guard(rt_);
  if (loop.recursive == nullptr) {
    rt_.Fail("the loop must be marked 'recursive' to be called");
  }
  if (args.positional.size() != 1 || !args.named.empty()) rt_.Fail("loop() takes one argument");
  TextBuilder out(rt_);
  IterateFor(*loop.recursive, args.positional[0], loop.depth0() + 1, loop.scope, &out);
  return out.Finish();
}

}  // namespace trireme::jinja
