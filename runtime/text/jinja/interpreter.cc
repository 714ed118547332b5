#include "runtime/text/jinja/interpreter.h"

#include "runtime/base/strings.h"

namespace trireme::jinja {

Interpreter::Flow Interpreter::Execute(const Block& block, Scope* scope, TextBuilder* out) {
  DepthGuard guard(rt_);
  for (const Stmt* stmt : block) {
    const Flow flow = ExecuteOne(*stmt, scope, out);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::ExecuteOne(const Stmt& stmt, Scope* scope, TextBuilder* out) {
  rt_.Charge(1);
  rt_.set_position(stmt.position);
  switch (stmt.kind) {
    case StmtKind::kText:
      out->Append(static_cast<const TextStmt&>(stmt).text);
      break;
    case StmtKind::kOutput:
      for (const Expr* item : static_cast<const OutputStmt&>(stmt).items) {
        AppendStr(rt_, Evaluate(*item, scope), out);
      }
      break;
    case StmtKind::kIf:
      return ExecuteIf(static_cast<const IfStmt&>(stmt), scope, out);
    case StmtKind::kFor:
      return ExecuteFor(static_cast<const ForStmt&>(stmt), scope, out);
    case StmtKind::kSet: {
      const auto& set = static_cast<const SetStmt&>(stmt);
      Assign(set.target, Evaluate(*set.value, scope), scope);
      break;
    }
    case StmtKind::kSetBlock:
      return ExecuteSetBlock(static_cast<const SetBlockStmt&>(stmt), scope);
    case StmtKind::kMacro:
      ExecuteMacro(static_cast<const MacroStmt&>(stmt), scope);
      break;
    case StmtKind::kCallBlock:
      ExecuteCallBlock(static_cast<const CallBlockStmt&>(stmt), scope, out);
      break;
    case StmtKind::kFilterBlock:
      return ExecuteFilterBlock(static_cast<const FilterBlockStmt&>(stmt), scope, out);
    case StmtKind::kWith:
      return ExecuteWith(static_cast<const WithStmt&>(stmt), scope, out);
    case StmtKind::kGeneration:
      return Execute(static_cast<const GenerationStmt&>(stmt).body, NewScope(scope), out);
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::ExecuteIf(const IfStmt& stmt, Scope* scope, TextBuilder* out) {
  for (const auto& [test, body] : stmt.branches) {
    if (Truthy(Evaluate(*test, scope))) return Execute(body, scope, out);
  }
  return Execute(stmt.otherwise, scope, out);
}

Interpreter::Flow Interpreter::ExecuteFor(const ForStmt& stmt, Scope* scope, TextBuilder* out) {
  return IterateFor(stmt, Evaluate(*stmt.iterable, scope), 0, scope, out);
}

// Returns kBreak or kContinue only from the `else` block, where they mean the loop around this one.
Interpreter::Flow Interpreter::IterateFor(const ForStmt& stmt, const Value& iterable, int depth0,
                                          Scope* scope, TextBuilder* out) {
  rt_.set_position(stmt.position);
  const bool sized = !iterable.is(Type::kList) || iterable.list().sized();
  const auto keep = [&](const Value& item) {
    Scope* filter_scope = NewScope(scope);
    Assign(stmt.target, item, filter_scope);
    return Truthy(Evaluate(*stmt.filter, filter_scope));
  };
  Loop* loop = rt_.heap().New<Loop>(
      rt_, Iterate(rt_, iterable), sized,
      stmt.filter != nullptr ? std::optional<Loop::Filter>(keep) : std::nullopt, depth0);
  if (stmt.recursive) {
    loop->recursive = &stmt;
    loop->scope = scope;
  }
  static const std::string_view kLoop = "loop";
  const auto loop_symbol = tree_.symbols.find(kLoop);
  bool empty = true;
  for (Value item; loop->Next(&item);) {
    empty = false;
    rt_.Charge(1);
    Scope* body_scope = NewScope(scope);
    Assign(stmt.target, item, body_scope);
    if (loop_symbol != tree_.symbols.end()) {
      AssignName(loop_symbol->second, Value::Of(loop), body_scope);
    }
    if (Execute(stmt.body, body_scope, out) == Flow::kBreak) break;
  }
  loop->Close();
  return empty ? Execute(stmt.otherwise, NewScope(scope), out) : Flow::kNext;
}

Interpreter::Flow Interpreter::ExecuteSetBlock(const SetBlockStmt& stmt, Scope* scope) {
  TextBuilder body(rt_);
  const Flow flow = Execute(stmt.body, NewScope(scope), &body);
  if (flow != Flow::kNext) return flow;
  Value value = body.Finish();
  if (stmt.filter != nullptr) value = EvaluateFilter(*stmt.filter, scope, value);
  Assign(stmt.target, value, scope);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::ExecuteFilterBlock(const FilterBlockStmt& stmt, Scope* scope,
                                                  TextBuilder* out) {
  TextBuilder body(rt_);
  Scope* inner = NewScope(scope);
  const Flow flow = Execute(stmt.body, inner, &body);
  if (flow != Flow::kNext) return flow;
  AppendStr(rt_, EvaluateFilter(*stmt.filter, inner, body.Finish()), out);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::ExecuteWith(const WithStmt& stmt, Scope* scope, TextBuilder* out) {
  Scope* inner = NewScope(scope);
  for (const auto& [target, expr] : stmt.variables) Assign(target, Evaluate(*expr, scope), inner);
  return Execute(stmt.body, inner, out);
}

void Interpreter::ExecuteCallBlock(const CallBlockStmt& stmt, Scope* scope, TextBuilder* out) {
  const Macro* caller = rt_.heap().New<Macro>(Macro{&stmt.caller, scope});
  AppendStr(rt_, EvaluateCall(*stmt.call, scope, caller), out);
}

void Interpreter::ExecuteMacro(const MacroStmt& stmt, Scope* scope) {
  AssignName(stmt.symbol, Value::Of(rt_.heap().New<Macro>(Macro{&stmt.callable, scope})), scope);
}

void Interpreter::AssignName(Symbol name, const Value& value, Scope* scope) {
  rt_.Charge(1 + scope->variables.size() / 16);
  for (auto& [symbol, current] : scope->variables) {
    if (symbol != name) continue;
    current = value;
    return;
  }
  scope->variables.emplace_back(name, value);
}

void Interpreter::Assign(const Target& target, const Value& value, Scope* scope) {
  switch (target.kind) {
    case Target::Kind::kName:
      return AssignName(target.name, value, scope);
    case Target::Kind::kAttribute: {
      const auto* name = tree_.names[target.name];
      rt_.set_position(target.position);
      Value object;
      for (const Scope* s = scope; s != nullptr && object.is_undefined(); s = s->parent) {
        for (const auto& [symbol, current] : s->variables) {
          if (symbol == target.name) object = current;
        }
      }
      if (!object.is(Type::kNamespace)) {
        rt_.Fail(StrCat("cannot assign an attribute: '", name->bytes, "' is not a namespace"));
      }
      return object.ns().attributes.Set(Value::String(target.attribute), value);
    }
    case Target::Kind::kTuple:
      break;
  }
  const Values items = Iterate(rt_, value);
  if (items.size() != target.parts.size()) {
    rt_.set_position(target.position);
    rt_.Fail(StrCat("cannot unpack ", items.size(), " values into ", target.parts.size()));
  }
  for (size_t i = 0; i < items.size(); ++i) Assign(target.parts[i], items[i], scope);
}

}  // namespace trireme::jinja
