#include "runtime/text/jinja/parser.h"

#include "runtime/text/jinja/expression_parser.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme::jinja {
namespace {

using Ends = std::initializer_list<std::string_view>;

class Parser : public ExpressionParser {
 public:
  Parser(std::string_view source, Tree* tree)
      : ExpressionParser(TokenStream(Tokenize(source)), tree) {}

  void Run() { tree_.body = Statements({}); }

 private:
  // Statements up to one of the `ends` tags (left current), or to the end of the template when there are none.
  Block Statements(Ends ends) {
    Nested nested(this);
    Block block;
    while (!tokens_.at(TokenType::kEnd)) {
      const Token& token = tokens_.Take();
      if (token.type == TokenType::kData) {
        auto* text = New<TextStmt>(token.position);
        text->text = token.text;
        block.push_back(text);
      } else if (token.type == TokenType::kVariableBegin) {
        auto* output = New<OutputStmt>(token.position);
        output->items.push_back(TupleOrExpression());
        tokens_.Expect(TokenType::kVariableEnd, "'}}'");
        block.push_back(output);
      } else {
        for (std::string_view end : ends) {
          if (tokens_.at_name(end)) return block;
        }
        block.push_back(Statement());
        tokens_.Expect(TokenType::kBlockEnd, "'%}'");
      }
    }
    if (ends.size() != 0) tokens_.Unexpected(StrCat("'", *(ends.end() - 1), "'"));
    return block;
  }

  // The body of a statement whose opening tag ends here. The tag that ends the body is left current.
  Block Body(Ends ends) {
    tokens_.AcceptOp(":");
    tokens_.Expect(TokenType::kBlockEnd, "'%}'");
    return Statements(ends);
  }
  Block BodyUntil(std::string_view end) {
    Block block = Body({end});
    tokens_.ExpectName(end);
    return block;
  }

  const Stmt* Statement() {
    const Token& token = tokens_.Expect(TokenType::kName, "the name of a statement");
    const std::string& name = token.text;
    const Position position = token.position;
    if (name == "if") return If(position);
    if (name == "for") return For(position);
    if (name == "set") return Set(position);
    if (name == "macro") return Macro(position);
    if (name == "call") return CallBlock(position);
    if (name == "filter") return FilterBlock(position);
    if (name == "with") return With(position);
    if (name == "print") return Print(position);
    if (name == "break" || name == "continue") return LoopControl(position, name == "break");
    if (name == "generation") {
      auto* stmt = New<GenerationStmt>(position);
      const int loops = std::exchange(loops_, 0);
      stmt->body = BodyUntil("endgeneration");
      loops_ = loops;
      return stmt;
    }
    FailAt(position, StrCat("the statement '", name, "' is not supported"));
  }

  const Stmt* If(Position position) {
    auto* stmt = New<IfStmt>(position);
    while (true) {
      const Expr* test = TupleOrExpression(/*conditional=*/false);
      stmt->branches.emplace_back(test, Body({"elif", "else", "endif"}));
      if (!tokens_.AcceptName("elif")) break;
    }
    if (tokens_.AcceptName("else")) stmt->otherwise = Body({"endif"});
    tokens_.ExpectName("endif");
    return stmt;
  }

  const Stmt* For(Position position) {
    auto* stmt = New<ForStmt>(position);
    stmt->target = AssignTarget(/*with_attribute=*/false, "in");
    RejectLoopTarget(stmt->target);
    tokens_.ExpectName("in");
    stmt->iterable = TupleOrExpression(/*conditional=*/false, "recursive");
    if (tokens_.AcceptName("if")) stmt->filter = Expression();
    stmt->recursive = tokens_.AcceptName("recursive");
    ++loops_;
    stmt->body = Body({"else", "endfor"});
    --loops_;
    if (tokens_.AcceptName("else")) stmt->otherwise = Body({"endfor"});
    tokens_.ExpectName("endfor");
    return stmt;
  }

  void RejectLoopTarget(const Target& target) {
    for (const Target& part : target.parts) RejectLoopTarget(part);
    if (target.kind == Target::Kind::kName && tree_.names[target.name]->bytes == "loop") {
      FailAt(target.position, "the special variable 'loop' cannot be assigned");
    }
  }

  const Stmt* Set(Position position) {
    Target target = AssignTarget(/*with_attribute=*/true, "");
    if (tokens_.AcceptOp("=")) {
      auto* stmt = New<SetStmt>(position);
      stmt->target = std::move(target);
      stmt->value = TupleOrExpression();
      return stmt;
    }
    auto* stmt = New<SetBlockStmt>(position);
    stmt->target = std::move(target);
    stmt->filter = FilterChain(nullptr, /*first_without_pipe=*/false);
    stmt->body = BodyUntil("endset");
    return stmt;
  }

  // name, namespace.attribute, (a, b) or a, b
  Target AssignTarget(bool with_attribute, std::string_view end) {
    Target first = SingleTarget(with_attribute);
    if (!tokens_.at_op(",")) return first;
    Target tuple;
    tuple.kind = Target::Kind::kTuple;
    tuple.position = first.position;
    tuple.parts.push_back(std::move(first));
    while (tokens_.AcceptOp(",")) {
      const bool at_end = tokens_.at_op("=") || tokens_.at_op(")") ||
                          tokens_.at(TokenType::kBlockEnd) || (!end.empty() && tokens_.at_name(end));
      if (at_end) break;
      tuple.parts.push_back(SingleTarget(with_attribute));
    }
    return tuple;
  }

  Target SingleTarget(bool with_attribute) {
    Nested nested(this);
    Target target;
    target.position = tokens_.current().position;
    if (tokens_.AcceptOp("(")) {
      target = AssignTarget(with_attribute, "");
      tokens_.ExpectOp(")");
      return target;
    }
    target.name = NewName();
    if (with_attribute && tokens_.AcceptOp(".")) {
      target.kind = Target::Kind::kAttribute;
      target.attribute = tree_.Literal(tokens_.Expect(TokenType::kName, "a name").text);
    }
    return target;
  }

  Symbol NewName() {
    const Token& token = tokens_.Expect(TokenType::kName, "a name");
    for (std::string_view literal : {"true", "false", "none", "True", "False", "None"}) {
      if (token.text == literal) FailAt(token.position, StrCat("cannot assign to '", literal, "'"));
    }
    return tree_.Intern(token.text);
  }

  void Parameters(Callable* callable) {
    tokens_.ExpectOp("(");
    while (!tokens_.at_op(")")) {
      Parameter parameter;
      const Position position = tokens_.current().position;
      parameter.symbol = NewName();
      parameter.name = tree_.names[parameter.symbol];
      if (tokens_.AcceptOp("=")) {
        parameter.otherwise = Expression();
      } else if (!callable->parameters.empty() && callable->parameters.back().otherwise) {
        FailAt(position, "parameter without a default after one that has a default");
      }
      callable->parameters.push_back(parameter);
      if (!tokens_.AcceptOp(",")) break;
    }
    tokens_.ExpectOp(")");
  }

  void CallableBody(Callable* callable, std::string_view end) {
    enclosing_.push_back(callable);
    const int loops = std::exchange(loops_, 0);  // `break` does not reach out of a macro
    callable->body = BodyUntil(end);
    loops_ = loops;
    enclosing_.pop_back();
  }

  const Stmt* Macro(Position position) {
    auto* stmt = New<MacroStmt>(position);
    stmt->symbol = NewName();
    stmt->callable.name = tree_.names[stmt->symbol];
    Parameters(&stmt->callable);
    CallableBody(&stmt->callable, "endmacro");
    return stmt;
  }

  const Stmt* CallBlock(Position position) {
    auto* stmt = New<CallBlockStmt>(position);
    if (tokens_.at_op("(")) Parameters(&stmt->caller);
    const Expr* call = Expression();
    if (call->kind != ExprKind::kCall) FailAt(call->position, "expected a call");
    stmt->call = static_cast<const CallExpr*>(call);
    CallableBody(&stmt->caller, "endcall");
    return stmt;
  }

  const Stmt* FilterBlock(Position position) {
    auto* stmt = New<FilterBlockStmt>(position);
    stmt->filter = FilterChain(nullptr, /*first_without_pipe=*/true);
    stmt->body = BodyUntil("endfilter");
    return stmt;
  }

  const Stmt* With(Position position) {
    auto* stmt = New<WithStmt>(position);
    while (!tokens_.at(TokenType::kBlockEnd)) {
      if (!stmt->variables.empty()) tokens_.ExpectOp(",");
      Target target = SingleTarget(/*with_attribute=*/false);
      tokens_.ExpectOp("=");
      stmt->variables.emplace_back(std::move(target), Expression());
    }
    stmt->body = BodyUntil("endwith");
    return stmt;
  }

  const Stmt* Print(Position position) {
    auto* stmt = New<OutputStmt>(position);
    while (!tokens_.at(TokenType::kBlockEnd)) {
      if (!stmt->items.empty()) tokens_.ExpectOp(",");
      stmt->items.push_back(Expression());
    }
    return stmt;
  }

  const Stmt* LoopControl(Position position, bool is_break) {
    if (loops_ == 0) FailAt(position, "'break' and 'continue' belong inside a loop");
    if (is_break) return New<BreakStmt>(position);
    return New<ContinueStmt>(position);
  }

  int loops_ = 0;  // loops around the current place, within the current macro
};

}  // namespace

Symbol Tree::Intern(std::string_view name) {
  if (const auto found = symbols.find(name); found != symbols.end()) return found->second;
  const auto symbol = static_cast<Symbol>(names.size());
  names.push_back(Literal(name));
  symbols.emplace(names.back()->bytes, symbol);
  return symbol;
}

const Str* Tree::Literal(std::string_view text) {
  Str str;
  str.bytes = bytes.emplace_back(text);
  str.num_chars = CountChars(text);
  return &literals.emplace_back(str);
}

std::unique_ptr<const Tree> Parse(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    throw TemplateError(absl::ResourceExhaustedError(
        StrCat("chat template: longer than ", kMaxSourceBytes, " bytes")));
  }
  if (!IsValidUtf8(source)) {
    throw TemplateError(absl::InvalidArgumentError("chat template: not valid UTF-8"));
  }
  auto tree = std::make_unique<Tree>();
  Parser(source, tree.get()).Run();
  return tree;
}

}  // namespace trireme::jinja
