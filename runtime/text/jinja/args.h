// Binding of call arguments to parameters.
#pragma once

#include <array>
#include <string_view>

#include "runtime/base/strings.h"
#include "runtime/text/jinja/operators.h"

namespace trireme::jinja {

// Arguments in the order of `names`; Value::Missing() where none was passed. Fails on unknown names, surplus
// arguments, and when one of the first `required` is missing.
template <size_t N>
std::array<Value, N> Bind(Runtime& rt, const Args& args, const std::string_view (&names)[N],
                          size_t required = 0) {
  std::array<Value, N> bound;
  bound.fill(Value::Missing());
  if (args.positional.size() > N) rt.Fail(StrCat("at most ", N, " arguments expected"));
  for (size_t i = 0; i < args.positional.size(); ++i) bound[i] = args.positional[i];
  for (const auto& [name, value] : args.named) {
    size_t i = 0;
    while (i < N && names[i] != name->bytes) ++i;
    if (i == N) rt.Fail("unknown keyword argument");
    if (!bound[i].is_missing()) rt.Fail(StrCat("two values for the argument '", names[i], "'"));
    bound[i] = value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (bound[i].is_missing()) rt.Fail(StrCat("the argument '", names[i], "' is missing"));
  }
  return bound;
}

inline void BindNothing(Runtime& rt, const Args& args) {
  if (!args.positional.empty() || !args.named.empty()) rt.Fail("no arguments expected");
}

inline const Str& StrArg(Runtime& rt, const Value& value) {
  if (value.is_undefined()) rt.FailUndefined(value);
  if (!value.is_string()) rt.Fail(StrCat("expected a string, got ", TypeName(value)));
  return value.str();
}

inline int64_t IntArg(Runtime& rt, const Value& value, int64_t otherwise) {
  if (value.is_missing()) return otherwise;
  if (value.is_undefined()) rt.FailUndefined(value);
  if (!value.is_integral()) rt.Fail(StrCat("expected an integer, got ", TypeName(value)));
  return value.integer();
}

inline bool BoolArg(const Value& value, bool otherwise) {
  return value.is_missing() ? otherwise : Truthy(value);
}

template <size_t N>
const Builtin* FindIn(const Builtin (&table)[N], std::string_view name) {
  for (const Builtin& builtin : table) {
    if (builtin.name == name) return &builtin;
  }
  return nullptr;
}

// The parts of FindFilter's table (filters_text.cc, filters_sequence.cc, filters_value.cc).
const Builtin* FindTextFilter(std::string_view name);
const Builtin* FindSequenceFilter(std::string_view name);
const Builtin* FindValueFilter(std::string_view name);
const Builtin* FindStringMethod(std::string_view name);

// Filters that are methods of str too.
Value Capitalize(Runtime& rt, const Value& self, const Args& args);
Value Upper(Runtime& rt, const Value& self, const Args& args);
Value Lower(Runtime& rt, const Value& self, const Args& args);
Value Strip(Runtime& rt, const Str& text, const Value& chars, bool left, bool right);
// str.splitlines()
Values SplitLines(Runtime& rt, const Str& text, bool keep_ends);
// json.dumps with the arguments of Hugging Face's tojson filter
Value ToJson(Runtime& rt, const Value& self, const Args& args);

}  // namespace trireme::jinja
