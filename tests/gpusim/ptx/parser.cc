#include "tests/gpusim/ptx/parser.h"

#include <bit>
#include <map>
#include <unordered_map>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "tests/gpusim/ptx/lexer.h"

namespace trireme::gpusim::ptx {
namespace {

// The words that may stand between `.visible` and the declared thing.
bool IsLinkage(std::string_view word) {
  return word == ".visible" || word == ".extern" || word == ".weak" || word == ".common";
}

bool SpaceNamed(std::string_view word, Space* space) {
  static const std::map<std::string_view, Space> kSpaces = {{".global", Space::kGlobal},
                                                            {".const", Space::kConst},
                                                            {".shared", Space::kShared},
                                                            {".local", Space::kLocal},
                                                            {".param", Space::kParam}};
  const auto it = kSpaces.find(word);
  if (it == kSpaces.end()) return false;
  *space = it->second;
  return true;
}

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

absl::StatusOr<uint64_t> Parser::Integer() {
  const bool negative = lexer_.Accept("-");
  if (lexer_.peek().kind != Token::Kind::kNumber) return Error("expected a number");
  const uint64_t bits = lexer_.Take().bits;
  return negative ? 0 - bits : bits;
}

absl::Status Parser::ModuleItem() {
  const Token token = lexer_.peek();
  if (token.Is(".version") || token.Is(".address_size")) {
    lexer_.Take();
    lexer_.Take();
    return absl::OkStatus();
  }
  if (token.Is(".target")) {
    lexer_.Take();
    module_.target = std::string(lexer_.Take().text);
    while (lexer_.Accept(",")) lexer_.Take();  // "debug", "texmode_..."
    return absl::OkStatus();
  }
  if (token.Is(".file")) {
    lexer_.Take();
    TRIREME_ASSIGN_OR_RETURN(const uint64_t number, Integer());
    if (number >= 1 << 16) return Error("too many files");
    if (module_.files.size() <= number) module_.files.resize(number + 1);
    module_.files[number] = std::string(lexer_.Take().text);
    while (lexer_.Accept(",")) lexer_.Take();
    return absl::OkStatus();
  }
  if (token.Is(".section")) {
    lexer_.Take();
    lexer_.Take();
    SkipBraces();
    return absl::OkStatus();
  }
  if (token.Is(".pragma") || token.Is(".alias")) {
    SkipTo(";");
    return absl::OkStatus();
  }
  bool is_extern = false;
  while (IsLinkage(lexer_.peek().text)) is_extern |= lexer_.Take().Is(".extern");
  const Token what = lexer_.Take();
  if (what.Is(".entry")) return FunctionItem(true, is_extern);
  if (what.Is(".func")) return FunctionItem(false, is_extern);
  Space space;
  if (SpaceNamed(what.text, &space)) return Variables(space, is_extern, &module_.variables);
  return Error(StrCat("a module cannot hold '", what.text, "'"));
}

// .align 4 .v2 .b8 name[16] = {...}; without the semicolon.
absl::StatusOr<Variable> Parser::OneVariable(Space space) {
  Variable variable;
  variable.space = space;
  uint64_t width = 1;
  bool aligned = false;
  while (lexer_.peek().text.starts_with(".")) {
    const Token word = lexer_.Take();
    if (word.Is(".align")) {
      TRIREME_ASSIGN_OR_RETURN(const uint64_t alignment, Integer());
      if (!std::has_single_bit(alignment) || alignment > 1 << 20) return Error("bad alignment");
      variable.alignment = static_cast<uint32_t>(alignment);
      aligned = true;
    } else if (word.Is(".v2")) {
      width = 2;
    } else if (word.Is(".v4")) {
      width = 4;
    } else if (const Type type = TypeNamed(word.text.substr(1)); type != Type::kNone) {
      variable.type = type;
    } else if (word.Is(".ptr")) {  // of a kernel's parameter: what it points to, which binds nobody
      while (lexer_.peek().text.starts_with(".")) {
        if (lexer_.Take().Is(".align")) lexer_.Take();
      }
    } else if (!word.Is(".attribute")) {
      return Error(StrCat("a variable cannot be '", word.text, "'"));
    } else {
      SkipTo(")");
    }
  }
  variable.name = std::string(lexer_.Take().text);
  variable.size = width * static_cast<uint64_t>(SizeOf(variable.type));
  if (!aligned) variable.alignment = static_cast<uint32_t>(variable.size);
  while (lexer_.Accept("[")) {
    uint64_t count = 0;
    if (!lexer_.peek().Is("]")) {
      TRIREME_ASSIGN_OR_RETURN(count, Integer());
    }
    if (count > uint64_t{1} << 32 || variable.size > uint64_t{1} << 31) return Error("too large");
    variable.size *= count;
    TRIREME_RETURN_IF_ERROR(Expect("]"));
  }
  if (lexer_.Accept("=")) TRIREME_RETURN_IF_ERROR(Initial(&variable));
  return variable;
}

absl::Status Parser::Initial(Variable* variable) {
  const size_t element = static_cast<size_t>(SizeOf(variable->type));
  int depth = 0;
  do {
    if (lexer_.Accept("{")) {
      ++depth;
    } else if (lexer_.Accept("}")) {
      --depth;
    } else if (lexer_.peek().kind == Token::Kind::kWord) {
      // A symbol, generic(symbol), either with an addend.
      const bool generic = lexer_.Accept("generic");
      if (generic) TRIREME_RETURN_IF_ERROR(Expect("("));
      Variable::Pointer pointer{variable->initial.size(), std::string(lexer_.Take().text), 0};
      if (generic) TRIREME_RETURN_IF_ERROR(Expect(")"));
      if (lexer_.Accept("+")) {
        TRIREME_ASSIGN_OR_RETURN(const uint64_t addend, Integer());
        pointer.addend = static_cast<int64_t>(addend);
      }
      variable->pointers.push_back(std::move(pointer));
      variable->initial.append(element, '\0');
    } else {
      TRIREME_ASSIGN_OR_RETURN(const Operand value, NumberOperand());
      for (size_t i = 0; i < element; ++i) {
        variable->initial.push_back(static_cast<char>(value.bits >> (8 * i)));
      }
    }
    lexer_.Accept(",");
    if (lexer_.peek().kind == Token::Kind::kEnd) return Error("the initial value does not end");
  } while (depth > 0);
  if (variable->initial.size() > variable->size) return Error("the initial value is too long");
  return absl::OkStatus();
}

absl::Status Parser::Variables(Space space, bool is_extern, std::vector<Variable>* out) {
  do {
    TRIREME_ASSIGN_OR_RETURN(Variable variable, OneVariable(space));
    variable.is_extern = is_extern;
    out->push_back(std::move(variable));
  } while (lexer_.Accept(","));
  return Expect(";");
}

absl::StatusOr<std::vector<Variable>> Parser::Params() {
  std::vector<Variable> params;
  TRIREME_RETURN_IF_ERROR(Expect("("));
  while (!lexer_.Accept(")")) {
    TRIREME_RETURN_IF_ERROR(Expect(".param"));
    TRIREME_ASSIGN_OR_RETURN(Variable param, OneVariable(Space::kParam));
    params.push_back(std::move(param));
    lexer_.Accept(",");
  }
  return params;
}

absl::Status Parser::FunctionItem(bool is_entry, bool is_extern) {
  Function function;
  function.is_entry = is_entry;
  function.is_extern = is_extern;
  if (lexer_.peek().Is("(")) {
    TRIREME_ASSIGN_OR_RETURN(function.returns, Params());
  }
  function.name = std::string(lexer_.Take().text);
  if (lexer_.peek().Is("(")) {
    TRIREME_ASSIGN_OR_RETURN(function.params, Params());
  }
  TRIREME_RETURN_IF_ERROR(FunctionDirectives(&function));
  if (lexer_.Accept(";")) {
    function.is_extern = true;
  } else {
    scopes_.assign(1, {});
    scope_ = 0;
    label_uses_.clear();
    source_ = {};
    function_ = &function;
    TRIREME_RETURN_IF_ERROR(Body());
    TRIREME_RETURN_IF_ERROR(ResolveLabels());
    function_ = nullptr;
  }
  module_.functions.push_back(std::move(function));
  return absl::OkStatus();
}

absl::Status Parser::FunctionDirectives(Function* function) {
  while (!lexer_.peek().Is("{") && !lexer_.peek().Is(";")) {
    const Token word = lexer_.Take();
    std::vector<uint64_t> numbers;
    while (lexer_.peek().kind == Token::Kind::kNumber) {
      numbers.push_back(lexer_.Take().bits);
      lexer_.Accept(",");
    }
    if (word.Is(".maxntid") || word.Is(".reqntid")) {
      uint64_t product = 1;
      for (const uint64_t n : numbers) product *= n;
      function->max_threads = static_cast<int>(product);
    } else if (word.Is(".reqnctapercluster")) {
      for (size_t i = 0; i < 3; ++i) {
        function->required_cluster[i] = i < numbers.size() ? static_cast<int>(numbers[i]) : 1;
      }
    } else if (word.Is(".pragma")) {
      SkipTo(";");
    } else if (!word.Is(".minnctapersm") && !word.Is(".maxnreg") && !word.Is(".noreturn") &&
               !word.Is(".explicitcluster") && !word.Is(".maxclusterrank") &&
               !word.Is(".blocksareclusters") && !word.Is(".unified")) {
      return Error(StrCat("unknown directive '", word.text, "'"));
    }
  }
  return absl::OkStatus();
}

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

}  // namespace

absl::StatusOr<Module> Parse(std::string_view source) { return Parser(source).Run(); }

}  // namespace trireme::gpusim::ptx
