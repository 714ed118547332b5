// The parser: what a module holds is read by parser.cc, what stands in braces by
// function_parser.cc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "tests/gpusim/ptx/lexer.h"
#include "tests/gpusim/ptx/module.h"

namespace trireme::gpusim::ptx {

bool SpaceNamed(std::string_view word, Space* space);  // ".shared"

// One function's body: `{}` nest, and names are looked up from the inside out.
class Parser {
 public:
  explicit Parser(std::string_view source) : lexer_(source) {}

  absl::StatusOr<Module> Run() {
    while (lexer_.peek().kind != Token::Kind::kEnd) TRIREME_RETURN_IF_ERROR(ModuleItem());
    return std::move(module_);
  }

 private:
  struct Scope {
    int parent = -1;
    std::unordered_map<std::string, int> registers, variables;
    std::unordered_map<std::string, uint32_t> labels;
  };
  struct LabelUse {
    uint32_t instruction;
    std::vector<int> path;  // of operand indices
    int scope;
  };

  absl::Status Error(std::string_view what) const {
    return absl::InvalidArgumentError(
        ToAbsl(StrCat("PTX line ", lexer_.peek().line, ", at '", lexer_.peek().text, "': ", what)));
  }
  absl::Status Expect(std::string_view text) {
    if (!lexer_.Accept(text)) return Error(StrCat("expected '", text, "'"));
    return absl::OkStatus();
  }
  void SkipTo(std::string_view text) {
    while (lexer_.peek().kind != Token::Kind::kEnd && !lexer_.Accept(text)) lexer_.Take();
  }
  void SkipBraces() {
    int depth = 0;
    do {
      const Token token = lexer_.Take();
      if (token.kind == Token::Kind::kEnd) return;
      depth += token.Is("{") ? 1 : token.Is("}") ? -1 : 0;
    } while (depth > 0);
  }

  absl::Status ModuleItem();
  absl::Status FunctionItem(bool is_entry, bool is_extern);
  absl::Status FunctionDirectives(Function* function);
  absl::StatusOr<std::vector<Variable>> Params();
  absl::StatusOr<Variable> OneVariable(Space space);
  absl::Status Variables(Space space, bool is_extern, std::vector<Variable>* out);
  absl::Status Initial(Variable* variable);
  absl::StatusOr<uint64_t> Integer();

  absl::Status Body();
  absl::Status Statement();
  absl::Status Registers();
  absl::Status OneInstruction();
  absl::StatusOr<Operand> ParseOperand(std::vector<int> path);
  absl::StatusOr<Operand> NameOperand(std::vector<int> path);
  absl::StatusOr<Operand> NumberOperand();
  absl::Status Items(std::string_view close, std::vector<int> path, std::vector<Operand>* items);
  absl::Status ResolveLabels();
  int FindRegister(const std::string& name) const;
  int FindVariable(const std::string& name) const;
  void TakeLoc();

  Lexer lexer_;
  Module module_;
  // Of the function in work.
  Function* function_ = nullptr;
  std::vector<Scope> scopes_;
  int scope_ = 0;
  std::vector<LabelUse> label_uses_;
  SourceLine source_;
};

}  // namespace trireme::gpusim::ptx
