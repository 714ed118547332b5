// The compiled form of a template: a tree of nodes owned by its Program, immutable and shared by all renderings.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/runtime.h"

namespace trireme::jinja {

using Symbol = uint32_t;  // index into Program's names

struct Node {
  explicit Node(Position position) : position(position) {}
  virtual ~Node() = default;  // the Program owns nodes of every kind in one list
  const Position position;
};

enum class ExprKind : uint8_t {
  kConst, kName, kList, kTuple, kDict, kNot, kNegate, kPositive, kBinary, kAnd, kOr, kCompare, kConcat,
  kConditional, kAttribute, kItem, kSlice, kCall, kFilter, kTest,
};

struct Expr : Node {
  Expr(Position position, ExprKind kind) : Node(position), kind(kind) {}
  const ExprKind kind;
};

// Constructor of a node whose kind is fixed.
#define JINJA_EXPR(name, the_kind) \
  explicit name(Position position) : Expr(position, ExprKind::the_kind) {}

struct ConstExpr : Expr {
  JINJA_EXPR(ConstExpr, kConst)
  Value value;
};
struct NameExpr : Expr {
  JINJA_EXPR(NameExpr, kName)
  Symbol name = 0;
};
struct SequenceExpr : Expr {  // kList, kTuple, kConcat
  using Expr::Expr;
  std::vector<const Expr*> items;
};
struct DictExpr : Expr {
  JINJA_EXPR(DictExpr, kDict)
  std::vector<std::pair<const Expr*, const Expr*>> items;
};
struct UnaryExpr : Expr {  // kNot, kNegate, kPositive
  using Expr::Expr;
  const Expr* operand = nullptr;
};
struct BinaryExpr : Expr {  // kBinary (by `op`), kAnd, kOr
  using Expr::Expr;
  BinaryOp op = BinaryOp::kAdd;
  const Expr *left = nullptr, *right = nullptr;
};
enum class CompareOp : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };
struct CompareExpr : Expr {  // a < b <= c: each pair must hold
  JINJA_EXPR(CompareExpr, kCompare)
  const Expr* first = nullptr;
  std::vector<std::pair<CompareOp, const Expr*>> rest;
};
struct ConditionalExpr : Expr {
  JINJA_EXPR(ConditionalExpr, kConditional)
  const Expr *test = nullptr, *then = nullptr, *otherwise = nullptr;  // otherwise may be null
};
struct AttributeExpr : Expr {
  JINJA_EXPR(AttributeExpr, kAttribute)
  const Expr* object = nullptr;
  const Str* name = nullptr;
};
struct SliceExpr : Expr {  // only as the key of an ItemExpr; parts may be null
  JINJA_EXPR(SliceExpr, kSlice)
  const Expr *start = nullptr, *stop = nullptr, *step = nullptr;
};
struct ItemExpr : Expr {
  JINJA_EXPR(ItemExpr, kItem)
  const Expr *object = nullptr, *key = nullptr;
};
struct CallArgs {
  std::vector<const Expr*> positional;
  std::vector<std::pair<const Str*, const Expr*>> named;
  const Expr *more_positional = nullptr, *more_named = nullptr;  // *args, **kwargs
};
struct CallExpr : Expr {
  JINJA_EXPR(CallExpr, kCall)
  const Expr* callee = nullptr;
  CallArgs args;
};
struct BuiltinExpr : Expr {  // kFilter, kTest
  using Expr::Expr;
  const Expr* input = nullptr;  // null: the body of the filter block
  const Builtin* builtin = nullptr;
  CallArgs args;
};

enum class StmtKind : uint8_t {
  kText, kOutput, kIf, kFor, kSet, kSetBlock, kMacro, kCallBlock, kFilterBlock, kWith, kGeneration, kBreak,
  kContinue,
};

struct Stmt : Node {
  Stmt(Position position, StmtKind kind) : Node(position), kind(kind) {}
  const StmtKind kind;
};
using Block = std::vector<const Stmt*>;

#define JINJA_STMT(name, the_kind) \
  explicit name(Position position) : Stmt(position, StmtKind::the_kind) {}

struct TextStmt : Stmt {
  JINJA_STMT(TextStmt, kText)
  std::string text;
};
struct OutputStmt : Stmt {
  JINJA_STMT(OutputStmt, kOutput)
  std::vector<const Expr*> items;
};
struct IfStmt : Stmt {
  JINJA_STMT(IfStmt, kIf)
  std::vector<std::pair<const Expr*, Block>> branches;  // if, elif...
  Block otherwise;
};
// What is assigned to: a name, namespace.attribute, or a tuple of targets.
struct Target {
  enum class Kind : uint8_t { kName, kAttribute, kTuple } kind = Kind::kName;
  Position position;
  Symbol name = 0;
  const Str* attribute = nullptr;
  std::vector<Target> parts;
};
struct ForStmt : Stmt {
  JINJA_STMT(ForStmt, kFor)
  Target target;
  const Expr *iterable = nullptr, *filter = nullptr;  // filter may be null
  bool recursive = false;
  Block body, otherwise;
};
struct SetStmt : Stmt {
  JINJA_STMT(SetStmt, kSet)
  Target target;
  const Expr* value = nullptr;
};
struct SetBlockStmt : Stmt {
  JINJA_STMT(SetBlockStmt, kSetBlock)
  Target target;
  const Expr* filter = nullptr;  // may be null
  Block body;
};
struct Parameter {
  Symbol symbol = 0;
  const Str* name = nullptr;
  const Expr* otherwise = nullptr;  // default; may be null
};
// A macro, or the body of a call block (then without a name).
struct Callable {
  const Str* name = nullptr;
  std::vector<Parameter> parameters;
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;
  Block body;
};
struct MacroStmt : Stmt {
  JINJA_STMT(MacroStmt, kMacro)
  Symbol symbol = 0;
  Callable callable;
};
struct CallBlockStmt : Stmt {
  JINJA_STMT(CallBlockStmt, kCallBlock)
  const CallExpr* call = nullptr;
  Callable caller;
};
struct FilterBlockStmt : Stmt {
  JINJA_STMT(FilterBlockStmt, kFilterBlock)
  const Expr* filter = nullptr;
  Block body;
};
struct WithStmt : Stmt {
  JINJA_STMT(WithStmt, kWith)
  std::vector<std::pair<Target, const Expr*>> variables;
  Block body;
};
struct GenerationStmt : Stmt {
  JINJA_STMT(GenerationStmt, kGeneration)
  Block body;
};
struct BreakStmt : Stmt {
  JINJA_STMT(BreakStmt, kBreak)
};
struct ContinueStmt : Stmt {
  JINJA_STMT(ContinueStmt, kContinue)
};
#undef JINJA_EXPR
#undef JINJA_STMT

// Owns the nodes, names and literals of one template.
struct Tree {
  Tree() = default;
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  Symbol Intern(std::string_view name);
  const Str* Literal(std::string_view text);  // kept as long as the tree

  Block body;
  std::vector<std::unique_ptr<Node>> nodes;
  std::deque<std::string> bytes;
  std::deque<Str> literals;
  std::vector<const Str*> names;  // [symbol]
  std::unordered_map<std::string_view, Symbol> symbols;
};

}  // namespace trireme::jinja
