#include "runtime/text/jinja/expression_parser.h"

#include <charconv>

#include "absl/strings/numbers.h"
#include "runtime/text/jinja/parser.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme::jinja {

ExpressionParser::Nested::Nested(ExpressionParser* parser) : parser_(parser) {
  if (++parser_->depth_ <= kMaxParseDepth) return;
  --parser_->depth_;  // the destructor does not run
  throw TemplateError(absl::ResourceExhaustedError(
      StrCat("chat template, ", ToString(parser_->tokens_.current().position),
             ": nested deeper than ", kMaxParseDepth, " levels")));
}

const Expr* ExpressionParser::Constant(Position position, Value value) {
  auto* expr = New<ConstExpr>(position);
  expr->value = value;
  return expr;
}

const Expr* ExpressionParser::Binary(Position position, ExprKind kind, BinaryOp op,
                                     const Expr* left, const Expr* right) {
  auto* expr = New<BinaryExpr>(position, kind);
  expr->op = op;
  expr->left = left;
  expr->right = right;
  return expr;
}

const Expr* ExpressionParser::TupleOrExpression(bool conditional, std::string_view end) {
  const Position position = tokens_.current().position;
  const auto at_end = [&] {
    return tokens_.at(TokenType::kVariableEnd) || tokens_.at(TokenType::kBlockEnd) ||
           tokens_.at_op(")") || (!end.empty() && tokens_.at_name(end));
  };
  const Expr* first = conditional ? Conditional() : Or();
  if (!tokens_.at_op(",")) return first;
  auto* tuple = New<SequenceExpr>(position, ExprKind::kTuple);
  tuple->items.push_back(first);
  while (tokens_.AcceptOp(",") && !at_end()) {
    tuple->items.push_back(conditional ? Conditional() : Or());
  }
  return tuple;
}

const Expr* ExpressionParser::Conditional() {
  Nested nested(this);
  const Expr* value = Or();
  while (tokens_.at_name("if")) {
    auto* expr = New<ConditionalExpr>(tokens_.Take().position);
    expr->then = value;
    expr->test = Or();
    if (tokens_.AcceptName("else")) expr->otherwise = Conditional();
    value = expr;
  }
  return value;
}

const Expr* ExpressionParser::Or() {
  const Expr* left = And();
  while (tokens_.at_name("or")) {
    const Position position = tokens_.Take().position;
    left = Binary(position, ExprKind::kOr, BinaryOp::kAdd, left, And());
  }
  return left;
}

const Expr* ExpressionParser::And() {
  const Expr* left = Not();
  while (tokens_.at_name("and")) {
    const Position position = tokens_.Take().position;
    left = Binary(position, ExprKind::kAnd, BinaryOp::kAdd, left, Not());
  }
  return left;
}

const Expr* ExpressionParser::Not() {
  if (!tokens_.at_name("not")) return Compare();
  Nested nested(this);
  auto* expr = New<UnaryExpr>(tokens_.Take().position, ExprKind::kNot);
  expr->operand = Not();
  return expr;
}

bool ExpressionParser::AcceptCompareOp(CompareOp* op) {
  static constexpr std::pair<std::string_view, CompareOp> kOps[] = {
      {"==", CompareOp::kEq}, {"!=", CompareOp::kNe}, {"<", CompareOp::kLt},
      {"<=", CompareOp::kLe}, {">", CompareOp::kGt},  {">=", CompareOp::kGe}};
  for (const auto& [text, value] : kOps) {
    if (!tokens_.AcceptOp(text)) continue;
    *op = value;
    return true;
  }
  if (tokens_.AcceptName("in")) {
    *op = CompareOp::kIn;
    return true;
  }
  if (tokens_.at_name("not") && tokens_.ahead().is_name("in")) {
    tokens_.Take();
    tokens_.Take();
    *op = CompareOp::kNotIn;
    return true;
  }
  return false;
}

const Expr* ExpressionParser::Compare() {
  const Position position = tokens_.current().position;
  const Expr* first = Sum();
  CompareExpr* compare = nullptr;
  for (CompareOp op; AcceptCompareOp(&op);) {
    if (compare == nullptr) {
      compare = New<CompareExpr>(position);
      compare->first = first;
    }
    compare->rest.emplace_back(op, Sum());
  }
  return compare != nullptr ? compare : first;
}

const Expr* ExpressionParser::Sum() {
  const Expr* left = Concatenation();
  while (tokens_.at_op("+") || tokens_.at_op("-")) {
    const Token& token = tokens_.Take();
    const BinaryOp op = token.text == "+" ? BinaryOp::kAdd : BinaryOp::kSub;
    left = Binary(token.position, ExprKind::kBinary, op, left, Concatenation());
  }
  return left;
}

const Expr* ExpressionParser::Concatenation() {
  const Position position = tokens_.current().position;
  const Expr* first = Product();
  if (!tokens_.at_op("~")) return first;
  auto* expr = New<SequenceExpr>(position, ExprKind::kConcat);
  expr->items.push_back(first);
  while (tokens_.AcceptOp("~")) expr->items.push_back(Product());
  return expr;
}

const Expr* ExpressionParser::Product() {
  static constexpr std::pair<std::string_view, BinaryOp> kOps[] = {{"*", BinaryOp::kMul},
                                                                   {"/", BinaryOp::kDiv},
                                                                   {"//", BinaryOp::kFloorDiv},
                                                                   {"%", BinaryOp::kMod}};
  const Expr* left = Power();
  while (true) {
    const auto* op = std::find_if(std::begin(kOps), std::end(kOps),
                                  [&](const auto& o) { return tokens_.at_op(o.first); });
    if (op == std::end(kOps)) return left;
    const Position position = tokens_.Take().position;
    left = Binary(position, ExprKind::kBinary, op->second, left, Power());
  }
}

const Expr* ExpressionParser::Power() {
  const Expr* left = Unary();
  while (tokens_.at_op("**")) {
    const Position position = tokens_.Take().position;
    left = Binary(position, ExprKind::kBinary, BinaryOp::kPow, left, Unary());
  }
  return left;
}

const Expr* ExpressionParser::Unary(bool with_filter) {
  Nested nested(this);
  const Expr* value;
  if (tokens_.at_op("-") || tokens_.at_op("+")) {
    const Token& token = tokens_.Take();
    const ExprKind kind = token.text == "-" ? ExprKind::kNegate : ExprKind::kPositive;
    auto* expr = New<UnaryExpr>(token.position, kind);
    expr->operand = Unary(/*with_filter=*/false);
    value = expr;
  } else {
    value = Primary();
  }
  value = Postfix(value);
  return with_filter ? FiltersAndTests(value) : value;
}

const Expr* ExpressionParser::Primary() {
  const Token& token = tokens_.current();
  switch (token.type) {
    case TokenType::kName: return NameOrLiteral();
    case TokenType::kInteger:
    case TokenType::kFloat: return Number();
    case TokenType::kString: {
      std::string text;
      while (tokens_.at(TokenType::kString)) text += tokens_.Take().text;
      return Constant(token.position, Value::String(tree_.Literal(text)));
    }
    default: break;
  }
  if (tokens_.at_op("[")) return ListLiteral();
  if (tokens_.at_op("{")) return DictLiteral();
  if (!tokens_.AcceptOp("(")) tokens_.Unexpected("an expression");
  if (tokens_.AcceptOp(")")) return New<SequenceExpr>(token.position, ExprKind::kTuple);
  const Expr* inner = TupleOrExpression();
  tokens_.ExpectOp(")");
  return inner;
}

const Expr* ExpressionParser::NameOrLiteral() {
  const Token& token = tokens_.Take();
  const std::string& name = token.text;
  if (name == "true" || name == "True") return Constant(token.position, Value::Bool(true));
  if (name == "false" || name == "False") return Constant(token.position, Value::Bool(false));
  if (name == "none" || name == "None") return Constant(token.position, Value::None());
  for (Callable* callable : enclosing_) {
    callable->uses_caller |= name == "caller";
    callable->uses_kwargs |= name == "kwargs";
    callable->uses_varargs |= name == "varargs";
  }
  auto* expr = New<NameExpr>(token.position);
  expr->name = tree_.Intern(name);
  return expr;
}

const Expr* ExpressionParser::Number() {
  const Token& token = tokens_.Take();
  std::string_view digits = token.text;
  if (token.type == TokenType::kFloat) {
    double value = 0;
    if (!absl::SimpleAtod(ToAbsl(digits), &value)) FailAt(token.position, "malformed number");
    return Constant(token.position, Value::Float(value));
  }
  int base = 10;
  if (digits.size() > 2 && digits[0] == '0') {
    const char prefix = static_cast<char>(digits[1] | 0x20);
    base = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 10;
    if (base != 10) digits.remove_prefix(2);
  }
  int64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error == std::errc::result_out_of_range) {
    FailAt(token.position, "integer outside the 64-bit range");
  }
  const bool leading_zero = base == 10 && digits[0] == '0' && value != 0;
  if (error != std::errc() || end != digits.data() + digits.size() || leading_zero) {
    FailAt(token.position, "malformed number");
  }
  return Constant(token.position, Value::Int(value));
}

const Expr* ExpressionParser::ListLiteral() {
  auto* list = New<SequenceExpr>(tokens_.Take().position, ExprKind::kList);
  while (!tokens_.at_op("]")) {
    list->items.push_back(Expression());
    if (!tokens_.AcceptOp(",")) break;
  }
  tokens_.ExpectOp("]");
  return list;
}

const Expr* ExpressionParser::DictLiteral() {
  auto* dict = New<DictExpr>(tokens_.Take().position);
  while (!tokens_.at_op("}")) {
    const Expr* key = Expression();
    tokens_.ExpectOp(":");
    dict->items.emplace_back(key, Expression());
    if (!tokens_.AcceptOp(",")) break;
  }
  tokens_.ExpectOp("}");
  return dict;
}

const Expr* ExpressionParser::Postfix(const Expr* object) {
  while (true) {
    if (tokens_.at_op(".") || tokens_.at_op("[")) {
      object = Subscript(object);
    } else if (tokens_.at_op("(")) {
      object = Call(object);
    } else {
      return object;
    }
  }
}

const Expr* ExpressionParser::FiltersAndTests(const Expr* input) {
  while (true) {
    if (tokens_.at_op("|")) {
      input = FilterChain(input, /*first_without_pipe=*/false);
    } else if (tokens_.at_name("is")) {
      input = Test(input);
    } else if (tokens_.at_op("(")) {
      input = Call(input);
    } else {
      return input;
    }
  }
}

const Expr* ExpressionParser::FilterChain(const Expr* input, bool first_without_pipe) {
  while (first_without_pipe || tokens_.AcceptOp("|")) {
    first_without_pipe = false;
    const Token& token = tokens_.Expect(TokenType::kName, "the name of a filter");
    auto* filter = New<BuiltinExpr>(token.position, ExprKind::kFilter);
    filter->input = input;
    filter->builtin = FindFilter(token.text);
    if (filter->builtin == nullptr) {
      FailAt(token.position, StrCat("no filter named '", token.text, "'"));
    }
    if (tokens_.at_op("(")) filter->args = Arguments();
    input = filter;
  }
  return input;
}

const Expr* ExpressionParser::Test(const Expr* input) {
  tokens_.Take();  // is
  const Position not_position = tokens_.current().position;
  const bool negated = tokens_.AcceptName("not");
  const Token& token = tokens_.Expect(TokenType::kName, "the name of a test");
  auto* test = New<BuiltinExpr>(token.position, ExprKind::kTest);
  test->input = input;
  test->builtin = FindTest(token.text);
  if (test->builtin == nullptr) FailAt(token.position, StrCat("no test named '", token.text, "'"));
  const Token& next = tokens_.current();
  const bool ends = next.is_name("else") || next.is_name("or") || next.is_name("and");
  if (tokens_.at_op("(")) {
    test->args = Arguments();
  } else if (next.is_name("is")) {
    FailAt(next.position, "tests cannot be chained with 'is'");
  } else if (!ends && (next.type == TokenType::kName || next.type == TokenType::kString ||
                       next.type == TokenType::kInteger || next.type == TokenType::kFloat ||
                       next.is_op("[") || next.is_op("{"))) {
    Nested nested(this);
    test->args.positional.push_back(Postfix(Primary()));
  }
  if (!negated) return test;
  auto* expr = New<UnaryExpr>(not_position, ExprKind::kNot);
  expr->operand = test;
  return expr;
}

const Expr* ExpressionParser::Subscript(const Expr* object) {
  const Token& token = tokens_.Take();
  if (token.text == ".") {
    if (tokens_.at(TokenType::kInteger)) {
      auto* item = New<ItemExpr>(token.position);
      item->object = object;
      item->key = Number();
      return item;
    }
    auto* attribute = New<AttributeExpr>(token.position);
    attribute->object = object;
    attribute->name = tree_.Literal(tokens_.Expect(TokenType::kName, "a name or a number").text);
    return attribute;
  }
  auto* item = New<ItemExpr>(token.position);
  item->object = object;
  item->key = SubscriptKey();
  if (tokens_.at_op(",")) {
    auto* tuple = New<SequenceExpr>(token.position, ExprKind::kTuple);
    tuple->items.push_back(item->key);
    while (tokens_.AcceptOp(",")) tuple->items.push_back(SubscriptKey());
    item->key = tuple;
    for (const Expr* part : tuple->items) {
      if (part->kind == ExprKind::kSlice) FailAt(part->position, "slices cannot be combined");
    }
  }
  tokens_.ExpectOp("]");
  return item;
}

const Expr* ExpressionParser::SubscriptKey() {
  const Position position = tokens_.current().position;
  const Expr* start = tokens_.at_op(":") ? nullptr : Expression();
  if (!tokens_.AcceptOp(":")) return start;
  auto* slice = New<SliceExpr>(position);
  slice->start = start;
  const auto at_part = [&] {
    return !tokens_.at_op(":") && !tokens_.at_op("]") && !tokens_.at_op(",");
  };
  if (at_part()) slice->stop = Expression();
  if (tokens_.AcceptOp(":") && at_part()) slice->step = Expression();
  return slice;
}

const CallExpr* ExpressionParser::Call(const Expr* callee) {
  auto* call = New<CallExpr>(tokens_.current().position);
  call->callee = callee;
  call->args = Arguments();
  return call;
}

CallArgs ExpressionParser::Arguments() {
  const Position open = tokens_.Take().position;
  CallArgs args;
  const auto require = [&](bool condition) {
    if (!condition) FailAt(open, "invalid order of arguments");
  };
  while (!tokens_.at_op(")")) {
    if (tokens_.AcceptOp("*")) {
      require(args.more_positional == nullptr && args.more_named == nullptr);
      args.more_positional = Expression();
    } else if (tokens_.AcceptOp("**")) {
      require(args.more_named == nullptr);
      args.more_named = Expression();
    } else if (tokens_.at(TokenType::kName) && tokens_.ahead().is_op("=")) {
      require(args.more_named == nullptr);
      const Str* name = tree_.Literal(tokens_.Take().text);
      tokens_.Take();  // =
      args.named.emplace_back(name, Expression());
    } else {
      require(args.more_positional == nullptr && args.more_named == nullptr && args.named.empty());
      args.positional.push_back(Expression());
    }
    if (!tokens_.AcceptOp(",")) break;
  }
  tokens_.ExpectOp(")");
  return args;
}

}  // namespace trireme::jinja
