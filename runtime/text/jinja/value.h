// Values of the template language. They are plain handles into the heap of one rendering (or into the compiled
// program, for literals): copied freely, never freed one by one, immutable but for namespaces and generators.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace trireme::jinja {

struct ByteRange {
  size_t begin, end;
};

// Text and its provenance: the bytes inside `user` ranges came from strings of the request, all others are the
// template's own. Every operation carries the ranges along.
struct Str {
  std::string_view bytes;             // valid UTF-8
  size_t num_chars = 0;               // code points
  const ByteRange* user = nullptr;    // [num_user], sorted, disjoint, never empty
  size_t num_user = 0;
  bool markup = false;                // result of the `safe` and `escape` filters
  ByteRange whole = {0, 0};           // storage of `user` for text that is the request's as a whole
  bool ascii() const { return num_chars == bytes.size(); }
};

class Value;
struct List;
class Dict;
struct Namespace;
struct Macro;
struct Function;
class Loop;

enum class Type : uint8_t {
  kMissing,  // internal: an argument that was not passed
  kUndefined, kNone, kBool, kInt, kFloat, kString, kList, kDict, kNamespace, kLoop, kMacro, kFunction,
};

class Value {
 public:
  Value() = default;
  static Value Missing() { return Value(Type::kMissing); }
  // `name`: what was looked up, for the error message; may be null.
  static Value Undefined(const Str* name = nullptr) { return Make(Type::kUndefined, &Value::str_, name); }
  static Value None() { return Value(Type::kNone); }
  static Value Bool(bool v) { return Make(Type::kBool, &Value::bool_, v); }
  static Value Int(int64_t v) { return Make(Type::kInt, &Value::int_, v); }
  static Value Float(double v) { return Make(Type::kFloat, &Value::float_, v); }
  static Value String(const Str* v) { return Make(Type::kString, &Value::str_, v); }
  static Value Of(List* v) { return Make(Type::kList, &Value::list_, v); }
  static Value Of(Dict* v) { return Make(Type::kDict, &Value::dict_, v); }
  static Value Of(Namespace* v) { return Make(Type::kNamespace, &Value::namespace_, v); }
  static Value Of(Loop* v) { return Make(Type::kLoop, &Value::loop_, v); }
  static Value Of(const Macro* v) { return Make(Type::kMacro, &Value::macro_, v); }
  static Value Of(const Function* v) { return Make(Type::kFunction, &Value::function_, v); }

  Type type() const { return type_; }
  bool is(Type type) const { return type_ == type; }
  bool is_missing() const { return type_ == Type::kMissing; }
  bool is_undefined() const { return type_ == Type::kUndefined; }
  bool is_none() const { return type_ == Type::kNone; }
  bool is_string() const { return type_ == Type::kString; }
  bool is_integral() const { return type_ == Type::kInt || type_ == Type::kBool; }
  bool is_number() const { return is_integral() || type_ == Type::kFloat; }

  // Each requires the matching type.
  bool boolean() const { return bool_; }
  int64_t integer() const { return type_ == Type::kBool ? int64_t{bool_} : int_; }  // kInt, kBool
  double number() const {                                                          // is_number()
    return type_ == Type::kFloat ? float_ : static_cast<double>(integer());
  }
  const Str& str() const { return *str_; }
  const Str* undefined_name() const { return str_; }
  List& list() const { return *list_; }
  Dict& dict() const { return *dict_; }
  Namespace& ns() const { return *namespace_; }
  Loop& loop() const { return *loop_; }
  const Macro& macro() const { return *macro_; }
  const Function& function() const { return *function_; }
  const void* identity() const { return str_; }  // the handle itself, for `is sameas`

 private:
  explicit Value(Type type) : type_(type) {}
  template <typename T>
  static Value Make(Type type, T Value::*member, T v) {
    Value value(type);
    value.*member = v;
    return value;
  }
  Type type_ = Type::kUndefined;
  union {
    bool bool_;
    int64_t int_;
    double float_;
    const Str* str_ = nullptr;
    List* list_;
    Dict* dict_;
    Namespace* namespace_;
    Loop* loop_;
    const Macro* macro_;
    const Function* function_;
  };
};

using Values = std::pmr::vector<Value>;

// Python's sequences and the lazy ones; they differ in printing, indexing and what they can be compared with.
enum class ListKind : uint8_t { kList, kTuple, kRange, kKeys, kValues, kItems, kGenerator };

struct List {
  List(ListKind kind, Values items) : kind(kind), items(std::move(items)) {}
  ListKind kind;
  Values items;
  size_t cursor = 0;   // kGenerator: items before it are consumed
  bool group = false;  // kTuple made by `groupby`: its two items have names
  bool sized() const { return kind != ListKind::kGenerator; }
  bool indexable() const { return kind <= ListKind::kRange; }
};

// Insertion-ordered map of hashable values (none, booleans, numbers, strings, tuples of them).
class Dict {
 public:
  struct Entry {
    Value key, value;
  };
  explicit Dict(std::pmr::memory_resource* heap) : entries_(heap), index_(heap) {}
  // Null when absent. Requires a hashable key (Hash in operators.h says).
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;
  void Set(const Value& key, const Value& value);
  const std::pmr::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }

 private:
  static constexpr size_t kLinear = 8;  // up to this size a scan is quicker than the index
  size_t FindIndex(const Value& key) const;
  std::pmr::vector<Entry> entries_;
  std::pmr::unordered_multimap<size_t, size_t> index_;  // hash of key -> place; empty while small
};

struct Namespace {
  explicit Namespace(std::pmr::memory_resource* heap) : attributes(heap) {}
  Dict attributes;
};

}  // namespace trireme::jinja
