#include <bit>
#include <utility>

#include "tests/gpusim/ptx/parser_state.h"

namespace trireme::gpusim::ptx {

absl::Status Parser::Body() {
  TRIREME_RETURN_IF_ERROR(Expect("{"));
  int depth = 1;
  while (depth > 0) {
    if (lexer_.peek().kind == Token::Kind::kEnd) return Error("the function does not end");
    if (lexer_.Accept("{")) {
      scopes_.push_back({.parent = scope_});
      scope_ = static_cast<int>(scopes_.size()) - 1;
      ++depth;
    } else if (lexer_.Accept("}")) {
      scope_ = scopes_[static_cast<size_t>(scope_)].parent;
      --depth;
    } else {
      TRIREME_RETURN_IF_ERROR(Statement());
    }
  }
  return absl::OkStatus();
}

absl::Status Parser::Statement() {
  const Token token = lexer_.peek();
  if (token.Is(";")) {
    lexer_.Take();
    return absl::OkStatus();
  }
  if (token.Is("@") || !token.text.starts_with(".")) {
    if (token.Is("@")) return OneInstruction();
    // A label is a word and a colon.
    Lexer ahead = lexer_;
    ahead.Take();
    if (!ahead.peek().Is(":")) return OneInstruction();
    lexer_.Take();
    lexer_.Take();
    scopes_[static_cast<size_t>(scope_)].labels[std::string(token.text)] =
        static_cast<uint32_t>(function_->instructions.size());
    return absl::OkStatus();
  }
  lexer_.Take();
  if (token.Is(".loc")) {
    TakeLoc();
    return absl::OkStatus();
  }
  if (token.Is(".reg")) return Registers();
  if (token.Is(".pragma")) {
    SkipTo(";");
    return absl::OkStatus();
  }
  Space space;
  if (!SpaceNamed(token.text, &space)) return Error(StrCat("unknown directive '", token.text, "'"));
  const size_t first = function_->variables.size();
  TRIREME_RETURN_IF_ERROR(Variables(space, false, &function_->variables));
  for (size_t i = first; i < function_->variables.size(); ++i) {
    scopes_[static_cast<size_t>(scope_)].variables[function_->variables[i].name] =
        static_cast<int>(i);
  }
  return absl::OkStatus();
}

// .loc file line column [, function_name label, inlined_at file line column]: for inlined code the
// line of the inlined function.
void Parser::TakeLoc() {
  const uint64_t file = lexer_.Take().bits, line = lexer_.Take().bits;
  lexer_.Take();
  if (line != 0) source_ = {static_cast<uint16_t>(file), static_cast<uint32_t>(line)};
  while (lexer_.Accept(",")) {
    const bool inlined = lexer_.Take().Is("inlined_at");
    lexer_.Take();
    if (inlined) {
      lexer_.Take();
      lexer_.Take();
    } else if (lexer_.Accept("+")) {
      lexer_.Take();
    }
  }
}

// .reg .b32 %r<12>, %x;
absl::Status Parser::Registers() {
  Type type = Type::kNone;
  while (lexer_.peek().text.starts_with(".")) {
    const Token word = lexer_.Take();
    type = TypeNamed(word.text.substr(1));
    if (type == Type::kNone) return Error(StrCat("no register can be '", word.text, "'"));
  }
  const auto add = [&](std::string name) {
    scopes_[static_cast<size_t>(scope_)].registers[name] =
        static_cast<int>(function_->registers.size());
    function_->registers.push_back({std::move(name), type});
  };
  do {
    const std::string name(lexer_.Take().text);
    if (lexer_.Accept("<")) {
      TRIREME_ASSIGN_OR_RETURN(const uint64_t count, Integer());
      if (count > 1 << 20) return Error("too many registers");
      for (uint64_t i = 0; i < count; ++i) add(StrCat(name, i));
      TRIREME_RETURN_IF_ERROR(Expect(">"));
    } else {
      add(name);
    }
  } while (lexer_.Accept(","));
  return Expect(";");
}

absl::Status Parser::OneInstruction() {
  Instruction instruction;
  instruction.source = source_;
  if (lexer_.Accept("@")) {
    instruction.predicate_negated = lexer_.Accept("!");
    const std::string name(lexer_.Take().text);
    instruction.predicate = FindRegister(name);
    if (instruction.predicate < 0) return Error(StrCat("no predicate '", name, "'"));
  }
  instruction.ptx_line = lexer_.peek().line;
  instruction.opcode = std::string(lexer_.Take().text);
  const auto path = [&] { return std::vector<int>{static_cast<int>(instruction.operands.size())}; };
  while (!lexer_.Accept(";")) {
    TRIREME_ASSIGN_OR_RETURN(Operand operand, ParseOperand(path()));
    instruction.operands.push_back(std::move(operand));
    if (!lexer_.Accept(",") && !lexer_.peek().Is(";")) return Error("expected ',' or ';'");
  }
  function_->instructions.push_back(std::move(instruction));
  return absl::OkStatus();
}

absl::StatusOr<Operand> Parser::NumberOperand() {
  Operand operand;
  operand.kind = Operand::Kind::kImmediate;
  const bool negative = lexer_.Accept("-");
  if (lexer_.peek().kind != Token::Kind::kNumber) return Error("expected a number");
  const Token number = lexer_.Take();
  operand.bits = number.bits;
  operand.is_float = number.is_float || number.is_double;
  if (negative && number.is_double) {
    operand.bits ^= uint64_t{1} << 63;
  } else if (negative && number.is_float) {
    operand.bits ^= uint64_t{1} << 31;
  } else if (negative) {
    operand.bits = 0 - operand.bits;
  }
  return operand;
}

absl::Status Parser::Items(std::string_view close, std::vector<int> path,
                           std::vector<Operand>* items) {
  while (!lexer_.Accept(close)) {
    std::vector<int> at = path;
    at.push_back(static_cast<int>(items->size()));
    TRIREME_ASSIGN_OR_RETURN(Operand item, ParseOperand(std::move(at)));
    items->push_back(std::move(item));
    if (!lexer_.Accept(",") && !lexer_.peek().Is(close)) {
      return Error(StrCat("expected ',' or '", close, "'"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Operand> Parser::ParseOperand(std::vector<int> path) {
  Operand operand;
  if (lexer_.Accept("{")) {
    operand.kind = Operand::Kind::kVector;
    TRIREME_RETURN_IF_ERROR(Items("}", std::move(path), &operand.items));
    return operand;
  }
  if (lexer_.Accept("(")) {
    operand.kind = Operand::Kind::kTuple;
    TRIREME_RETURN_IF_ERROR(Items(")", std::move(path), &operand.items));
    return operand;
  }
  if (lexer_.Accept("[")) {
    operand.kind = Operand::Kind::kAddress;
    TRIREME_RETURN_IF_ERROR(Items("]", std::move(path), &operand.items));
    if (operand.items.empty()) return Error("an empty address");
    operand.bits = operand.items[0].bits;  // of base + offset
    if (operand.items[0].kind != Operand::Kind::kImmediate) operand.items[0].bits = 0;
    return operand;
  }
  if (lexer_.Accept("!")) {
    TRIREME_ASSIGN_OR_RETURN(operand, ParseOperand(std::move(path)));
    operand.negated = true;
    return operand;
  }
  if (lexer_.peek().kind == Token::Kind::kNumber || lexer_.peek().Is("-")) return NumberOperand();
  if (lexer_.peek().kind == Token::Kind::kWord) return NameOperand(std::move(path));
  return Error("expected an operand");
}

absl::StatusOr<Operand> Parser::NameOperand(std::vector<int> path) {
  Operand operand;
  operand.name = std::string(lexer_.Take().text);
  if (operand.name == "_") return operand;
  operand.reg = FindRegister(operand.name);
  if (operand.reg >= 0) {
    operand.kind = Operand::Kind::kRegister;
    if (lexer_.Accept("|")) {
      const std::string second(lexer_.Take().text);
      operand.second = FindRegister(second);
      if (operand.second < 0 && second != "_") return Error(StrCat("no register '", second, "'"));
    }
  } else if (operand.name.starts_with("%")) {
    operand.kind = Operand::Kind::kSpecial;
    return operand;
  } else if (operand.name == "_|") {
    return Error("unexpected sink");
  } else {
    operand.reg = FindVariable(operand.name);
    operand.kind = Operand::Kind::kSymbol;
    if (operand.reg < 0) {
      // A label, a variable of the module or a function: known at the end.
      label_uses_.push_back(
          {static_cast<uint32_t>(function_->instructions.size()), std::move(path), scope_});
    }
  }
  if (lexer_.peek().Is("+") || lexer_.peek().Is("-")) {  // base + offset
    const bool minus = lexer_.Take().Is("-");
    TRIREME_ASSIGN_OR_RETURN(const uint64_t offset, Integer());
    operand.bits = minus ? 0 - offset : offset;
  }
  return operand;
}

int Parser::FindRegister(const std::string& name) const {
  for (int s = scope_; s >= 0; s = scopes_[static_cast<size_t>(s)].parent) {
    const auto& registers = scopes_[static_cast<size_t>(s)].registers;
    if (const auto it = registers.find(name); it != registers.end()) return it->second;
  }
  return -1;
}

int Parser::FindVariable(const std::string& name) const {
  for (int s = scope_; s >= 0; s = scopes_[static_cast<size_t>(s)].parent) {
    const auto& variables = scopes_[static_cast<size_t>(s)].variables;
    if (const auto it = variables.find(name); it != variables.end()) return it->second;
  }
  return -1;
}

// Also cuts the opcodes, whose texts have their final place now.
absl::Status Parser::ResolveLabels() {
  for (const LabelUse& use : label_uses_) {
    Instruction& instruction = function_->instructions[use.instruction];
    Operand* operand = &instruction.operands[static_cast<size_t>(use.path[0])];
    for (size_t i = 1; i < use.path.size(); ++i) {
      operand = &operand->items[static_cast<size_t>(use.path[i])];
    }
    for (int s = use.scope; s >= 0; s = scopes_[static_cast<size_t>(s)].parent) {
      const auto& labels = scopes_[static_cast<size_t>(s)].labels;
      if (const auto it = labels.find(operand->name); it != labels.end()) {
        operand->kind = Operand::Kind::kLabel;
        operand->target = it->second;
        break;
      }
    }
  }
  for (Instruction& instruction : function_->instructions) {
    std::string_view rest = instruction.opcode;
    for (size_t dot = 0; dot != std::string_view::npos;) {
      dot = rest.find('.');
      instruction.parts.push_back(rest.substr(0, dot));
      if (dot != std::string_view::npos) rest.remove_prefix(dot + 1);
    }
  }
  return absl::OkStatus();
}

}  // namespace trireme::gpusim::ptx
