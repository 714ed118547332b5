// The parser's view of the tokens.
#pragma once

#include <utility>
#include <vector>

#include "runtime/base/strings.h"
#include "runtime/text/jinja/lexer.h"

namespace trireme::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[pos_]; }
  const Token& ahead() const { return tokens_[std::min(pos_ + 1, tokens_.size() - 1)]; }
  const Token& Take() {
    const Token& token = tokens_[pos_];
    if (pos_ + 1 < tokens_.size()) ++pos_;
    return token;
  }
  bool at(TokenType type) const { return current().type == type; }
  bool at_op(std::string_view op) const { return current().is_op(op); }
  bool at_name(std::string_view name) const { return current().is_name(name); }
  bool AcceptOp(std::string_view op) { return at_op(op) && (Take(), true); }
  bool AcceptName(std::string_view name) { return at_name(name) && (Take(), true); }

  const Token& Expect(TokenType type, std::string_view what) {
    if (!at(type)) Unexpected(what);
    return Take();
  }
  void ExpectOp(std::string_view op) {
    if (!AcceptOp(op)) Unexpected(StrCat("'", op, "'"));
  }
  void ExpectName(std::string_view name) {
    if (!AcceptName(name)) Unexpected(StrCat("'", name, "'"));
  }
  [[noreturn]] void Unexpected(std::string_view expected) const {
    FailAt(current().position, StrCat("expected ", expected, ", got ", Describe(current())));
  }

 private:
  static std::string Describe(const Token& token) {
    switch (token.type) {
      case TokenType::kData: return "text";
      case TokenType::kVariableBegin: return "'{{'";
      case TokenType::kVariableEnd: return "'}}'";
      case TokenType::kBlockBegin: return "'{%'";
      case TokenType::kBlockEnd: return "'%}'";
      case TokenType::kString: return "a string";
      case TokenType::kEnd: return "the end of the template";
      default: return StrCat("'", token.text, "'");
    }
  }
  const std::vector<Token> tokens_;
  size_t pos_ = 0;
};

}  // namespace trireme::jinja
