// Python's operators and conversions on values.
#pragma once

#include "runtime/text/jinja/runtime.h"
#include "runtime/text/jinja/text.h"

namespace trireme::jinja {

bool Truthy(const Value& value);
inline bool IsListOrTuple(const Value& value) {
  return value.is(Type::kList) && value.list().kind <= ListKind::kTuple;
}

enum class BinaryOp : uint8_t { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
Value Arithmetic(Runtime& rt, BinaryOp op, const Value& a, const Value& b);
Value Negate(Runtime& rt, const Value& value);

bool Equal(Runtime& rt, const Value& a, const Value& b);
bool Less(Runtime& rt, const Value& a, const Value& b);  // error for what Python cannot order
bool LessOrEqual(Runtime& rt, const Value& a, const Value& b);
bool Contains(Runtime& rt, const Value& container, const Value& item);
bool Identical(const Value& a, const Value& b);  // Python's `is`

// Pays for hashing and comparing `key`, whatever its size.
void ChargeKey(Runtime& rt, const Value& key);
bool IsHashable(Runtime& rt, const Value& value);  // charges like ChargeKey
size_t Hash(const Value& value);                   // requires IsHashable

// Items to loop over: of a list, the keys of a dict, the code points of a string. Consumes a
// generator.
Values Iterate(Runtime& rt, const Value& value);
// Python's len(); error for values without one.
int64_t Length(Runtime& rt, const Value& value);

// object.name: attributes first, then items. object[key]: items first. Undefined when neither
// exists.
Value GetAttribute(Runtime& rt, const Value& object, const Str& name);
// object.name without the items; missing when there is no such attribute.
Value OwnAttribute(Runtime& rt, const Value& object, std::string_view name);
Value GetItem(Runtime& rt, const Value& object, const Value& key);
// object[start:stop:step]; missing or none parts are left out. Error for what has no slices.
Value GetSlice(Runtime& rt, const Value& object, const Value& start, const Value& stop,
               const Value& step);

// str(value) and repr(value).
Value ToStr(Runtime& rt, const Value& value);
void AppendStr(Runtime& rt, const Value& value, TextBuilder* out);
void AppendRepr(Runtime& rt, const Value& value, TextBuilder* out);
std::string FloatRepr(double value);

std::string_view TypeName(const Value& value);

}  // namespace trireme::jinja
