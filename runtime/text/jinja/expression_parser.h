// Expressions, by precedence climbing. The statement parser (parser.cc) derives from this.
#pragma once

#include <initializer_list>
#include <memory>
#include <string_view>
#include <utility>

#include "runtime/text/jinja/ast.h"
#include "runtime/text/jinja/token_stream.h"

namespace trireme::jinja {

class ExpressionParser {
 protected:
  ExpressionParser(TokenStream tokens, Tree* tree) : tokens_(std::move(tokens)), tree_(*tree) {}

  const Expr* Expression() { return Conditional(); }
  // An expression, or a tuple without brackets. `conditional`: "a if b" may appear; `end`: a name that ends the tuple.
  const Expr* TupleOrExpression(bool conditional = true, std::string_view end = "");
  // A chain of "name(args)|name" applied to the body of a block, from the current name on.
  const Expr* FilterChain(const Expr* input, bool first_without_pipe);
  const CallExpr* Call(const Expr* callee);

  template <typename T, typename... Args>
  T* New(Args&&... args) {
    auto node = std::make_unique<T>(std::forward<Args>(args)...);
    T* raw = node.get();
    tree_.nodes.push_back(std::move(node));
    return raw;
  }

  // Counts nesting of the grammar, so that hostile input ends in an error and not at the end of the stack.
  class Nested {
   public:
    explicit Nested(ExpressionParser* parser);
    ~Nested() { --parser_->depth_; }

   private:
    ExpressionParser* const parser_;
  };

  TokenStream tokens_;
  Tree& tree_;
  std::vector<Callable*> enclosing_;  // macros and call blocks around the current place

 private:
  const Expr* Conditional();
  const Expr* Or();
  const Expr* And();
  const Expr* Not();
  const Expr* Compare();
  bool AcceptCompareOp(CompareOp* op);
  const Expr* Sum();
  const Expr* Concatenation();
  const Expr* Product();
  const Expr* Power();
  const Expr* Unary(bool with_filter = true);
  const Expr* Primary();
  const Expr* NameOrLiteral();
  const Expr* Number();
  const Expr* ListLiteral();
  const Expr* DictLiteral();
  const Expr* Postfix(const Expr* object);
  const Expr* FiltersAndTests(const Expr* input);
  const Expr* Test(const Expr* input);
  const Expr* Subscript(const Expr* object);
  const Expr* SubscriptKey();
  CallArgs Arguments();
  const Expr* Constant(Position position, Value value);
  const Expr* Binary(Position position, ExprKind kind, BinaryOp op, const Expr* left,
                     const Expr* right);

  int depth_ = 0;
};

}  // namespace trireme::jinja
