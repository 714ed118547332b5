#include "tests/gpusim/ptx/parser.h"

#include <bit>
#include <map>
#include <unordered_map>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "tests/gpusim/ptx/parser_state.h"

namespace trireme::gpusim::ptx {
namespace {

// The words that may stand between `.visible` and the declared thing.
bool IsLinkage(std::string_view word) {
  return word == ".visible" || word == ".extern" || word == ".weak" || word == ".common";
}

}  // namespace

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

absl::StatusOr<Module> Parse(std::string_view source) { return Parser(source).Run(); }

}  // namespace trireme::gpusim::ptx
