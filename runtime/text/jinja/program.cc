#include "runtime/text/jinja/program.h"

#include "runtime/text/jinja/interpreter.h"
#include "runtime/text/jinja/parser.h"

namespace trireme::jinja {
namespace {

class ScopeVariables : public Program::Variables {
 public:
  ScopeVariables(const Tree& tree, Scope* scope) : tree_(tree), scope_(scope) {}
  void Set(std::string_view name, const Value& value) override {
    const auto symbol = tree_.symbols.find(name);
    if (symbol == tree_.symbols.end()) return;
    for (auto& [existing, current] : scope_->variables) {
      if (existing != symbol->second) continue;
      current = value;
      return;
    }
    scope_->variables.emplace_back(symbol->second, value);
  }

 private:
  const Tree& tree_;
  Scope* const scope_;
};

}  // namespace

Program::Program(std::unique_ptr<const Tree> tree) : tree_(std::move(tree)) {}
Program::~Program() = default;

absl::StatusOr<std::unique_ptr<const Program>> Program::Compile(std::string_view source) {
  try {
    return std::unique_ptr<const Program>(new Program(Parse(source)));
  } catch (const TemplateError& error) {
    return error.status();
  }
}

absl::StatusOr<Rendered> Program::Render(absl::FunctionRef<void(Runtime&, Variables&)> define,
                                         absl::Time now, const Limits& limits) const {
  try {
    Runtime rt(limits, now);
    Interpreter interpreter(*tree_, rt);
    Scope* globals = interpreter.NewScope(nullptr);
    ScopeVariables variables(*tree_, globals);
    for (const Str* name : tree_->names) {
      if (const Builtin* builtin = FindGlobal(name->bytes)) {
        variables.Set(name->bytes,
                      Value::Of(rt.heap().New<Function>(Function{builtin, Value::Missing()})));
      }
    }
    define(rt, variables);
    TextBuilder out(rt);
    interpreter.Run(globals, &out);
    return Rendered{out.bytes(), out.user()};
  } catch (const TemplateError& error) {
    return error.status();
  }
}

}  // namespace trireme::jinja
