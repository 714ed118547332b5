// Runs a Tree: evaluates expressions and executes statements into a TextBuilder.
#pragma once

#include "runtime/text/jinja/ast.h"
#include "runtime/text/jinja/loop.h"
#include "runtime/text/jinja/text.h"

namespace trireme::jinja {

// Variables of one block. Loop bodies, macros and captured blocks have their own, `if` does not.
struct Scope {
  Scope(std::pmr::memory_resource* heap, Scope* parent) : parent(parent), variables(heap) {}
  Scope* const parent;
  std::pmr::vector<std::pair<Symbol, Value>> variables;
};

// A macro value: its code and the scope it was defined in. Also the `caller` of a call block.
struct Macro {
  const Callable* callable;
  Scope* closure;
};

class Interpreter {
 public:
  Interpreter(const Tree& tree, Runtime& rt) : tree_(tree), rt_(rt) {}

  // Executes the template with `globals` as the outermost scope.
  void Run(Scope* globals, TextBuilder* out) { Execute(tree_.body, NewScope(globals), out); }
  Scope* NewScope(Scope* parent) { return rt_.heap().New<Scope>(rt_.memory(), parent); }

 private:
  enum class Flow { kNext, kBreak, kContinue };

  // Statements (interpreter.cc).
  Flow Execute(const Block& block, Scope* scope, TextBuilder* out);
  Flow ExecuteOne(const Stmt& stmt, Scope* scope, TextBuilder* out);
  Flow ExecuteIf(const IfStmt& stmt, Scope* scope, TextBuilder* out);
  Flow ExecuteFor(const ForStmt& stmt, Scope* scope, TextBuilder* out);
  Flow IterateFor(const ForStmt& stmt, const Value& iterable, int depth0, Scope* scope,
                  TextBuilder* out);
  Flow ExecuteSetBlock(const SetBlockStmt& stmt, Scope* scope);
  Flow ExecuteFilterBlock(const FilterBlockStmt& stmt, Scope* scope, TextBuilder* out);
  Flow ExecuteWith(const WithStmt& stmt, Scope* scope, TextBuilder* out);
  void ExecuteCallBlock(const CallBlockStmt& stmt, Scope* scope, TextBuilder* out);
  void ExecuteMacro(const MacroStmt& stmt, Scope* scope);
  void Assign(const Target& target, const Value& value, Scope* scope);
  void AssignName(Symbol name, const Value& value, Scope* scope);

  // Expressions (evaluate.cc).
  Value Evaluate(const Expr& expr, Scope* scope);
  Value EvaluateName(const NameExpr& expr, Scope* scope);
  Value EvaluateSequence(const SequenceExpr& expr, Scope* scope);
  Value EvaluateDict(const DictExpr& expr, Scope* scope);
  Value EvaluateConcat(const SequenceExpr& expr, Scope* scope);
  Value EvaluateCompare(const CompareExpr& expr, Scope* scope);
  Value EvaluateConditional(const ConditionalExpr& expr, Scope* scope);
  Value EvaluateItem(const ItemExpr& expr, Scope* scope);
  // `piped`: what a filter without an input expression works on (the body of a filter block).
  Value EvaluateFilter(const Expr& expr, Scope* scope, const Value& piped);
  Args EvaluateArgs(const CallArgs& args, Scope* scope);
  Value EvaluateCall(const CallExpr& expr, Scope* scope, const Macro* caller);

  // Calls (calls.cc).
  Value CallMacro(const Macro& macro, const Args& args);
  void BindParameters(const Callable& callable, const Args& args, Scope* scope);
  void BindSpecials(const Callable& callable, const Args& args, Scope* scope);
  Value CallLoop(Loop& loop, const Args& args);

  const Tree& tree_;
  Runtime& rt_;
};

}  // namespace trireme::jinja
