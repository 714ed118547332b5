// Template text to tokens, with Jinja's white space rules (trim_blocks, lstrip_blocks, no trailing newline).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/jinja/runtime.h"

namespace trireme::jinja {

enum class TokenType : uint8_t {
  kData, kVariableBegin, kVariableEnd, kBlockBegin, kBlockEnd, kName, kString, kInteger, kFloat,
  kOperator, kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  std::string text;  // data, name, unescaped string, operator, or the digits of a number
  Position position;
  bool is(TokenType t, std::string_view s) const { return type == t && text == s; }
  bool is_op(std::string_view s) const { return is(TokenType::kOperator, s); }
  bool is_name(std::string_view s) const { return is(TokenType::kName, s); }
};

// Ends with one kEnd token. Throws TemplateError (INVALID_ARGUMENT with the position). `source` is valid UTF-8.
std::vector<Token> Tokenize(std::string_view source);

// "line L, column C: message" as INVALID_ARGUMENT.
[[noreturn]] void FailAt(Position position, std::string_view message);

}  // namespace trireme::jinja
