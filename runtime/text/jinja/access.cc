// Attributes, items and slices.
#include <algorithm>

#include "runtime/base/strings.h"
#include "runtime/text/jinja/loop.h"
#include "runtime/text/jinja/operators.h"

namespace trireme::jinja {
namespace {

// object[key] as Python has it. Missing for a key that is absent or of the wrong type.
Value OwnItem(Runtime& rt, const Value& object, const Value& key) {
  if (object.is_undefined()) rt.FailUndefined(object);
  if (object.is(Type::kDict)) {
    if (!IsHashable(rt, key)) return Value::Missing();
    const Value* found = object.dict().Find(key);
    return found != nullptr ? *found : Value::Missing();
  }
  if (!key.is_integral()) return Value::Missing();
  const bool is_string = object.is_string();
  if (!is_string && !(object.is(Type::kList) && object.list().indexable())) {
    return Value::Missing();
  }
  const int64_t size = Length(rt, object);
  int64_t index = key.integer();
  if (index < -size || index >= size) return Value::Missing();
  if (index < 0) index += size;
  const auto at = static_cast<size_t>(index);
  return is_string ? CharRange(rt, object.str(), at, at + 1) : object.list().items[at];
}

struct SliceBounds {
  int64_t start, stop, step;
};

int64_t SliceIndex(Runtime& rt, const Value& value, int64_t otherwise) {
  if (value.is_missing() || value.is_none()) return otherwise;
  if (!value.is_integral()) rt.Fail("slice indices must be integers or none");
  return value.integer();
}

// Python's slice.indices(): bounds clamped to the sequence.
SliceBounds ClampSlice(Runtime& rt, const Value& start, const Value& stop, const Value& step,
                       int64_t size) {
  SliceBounds bounds{0, 0, SliceIndex(rt, step, 1)};
  if (bounds.step == 0) rt.Fail("slice step cannot be zero");
  const bool down = bounds.step < 0;
  const auto clamp = [&](int64_t index) {
    if (index < 0) index = index < -size ? -1 : index + size;
    if (index < 0) return down ? int64_t{-1} : int64_t{0};
    return index >= size ? (down ? size - 1 : size) : index;
  };
  bounds.start = start.is_missing() || start.is_none() ? (down ? size - 1 : 0)
                                                       : clamp(SliceIndex(rt, start, 0));
  bounds.stop =
      stop.is_missing() || stop.is_none() ? (down ? -1 : size) : clamp(SliceIndex(rt, stop, 0));
  // Longer steps than the sequence select one item; this keeps `i += step` from overflowing.
  bounds.step = std::clamp(bounds.step, -size - 1, size + 1);
  return bounds;
}

}  // namespace

// Names that begin with an underscore are out of reach by the sandbox rule; nothing here has one.
Value OwnAttribute(Runtime& rt, const Value& object, std::string_view name) {
  if (object.is_undefined()) rt.FailUndefined(object);
  rt.ChargeBytes(name.size());
  if (name.empty() || name[0] == '_') return Value::Missing();
  if (object.is(Type::kNamespace)) {
    const Value* found = object.ns().attributes.Find(name);
    return found != nullptr ? *found : Value::Missing();
  }
  if (object.is(Type::kLoop)) {
    const Value value = object.loop().Attribute(name);
    if (!value.is_undefined()) return value;
    if (name == "previtem" || name == "nextitem") return value;
  }
  if (object.is(Type::kList) && object.list().group) {
    if (name == "grouper") return object.list().items[0];
    if (name == "list") return object.list().items[1];
  }
  if (const Builtin* method = FindMethod(object, name)) {
    return Value::Of(rt.heap().New<Function>(Function{method, object}));
  }
  return Value::Missing();
}

Value GetAttribute(Runtime& rt, const Value& object, const Str& name) {
  Value found = OwnAttribute(rt, object, name.bytes);
  if (found.is_missing()) found = OwnItem(rt, object, Value::String(&name));
  return found.is_missing() ? Value::Undefined(&name) : found;
}

Value GetItem(Runtime& rt, const Value& object, const Value& key) {
  Value found = OwnItem(rt, object, key);
  if (found.is_missing() && key.is_string()) found = OwnAttribute(rt, object, key.str().bytes);
  if (!found.is_missing()) return found;
  // A key of the request does not belong into an error message.
  return Value::Undefined(key.is_string() && key.str().num_user == 0 ? &key.str() : nullptr);
}

Value GetSlice(Runtime& rt, const Value& object, const Value& start, const Value& stop,
               const Value& step) {
  if (object.is_undefined()) rt.FailUndefined(object);
  const bool is_string = object.is_string();
  if (!is_string && !(object.is(Type::kList) && object.list().indexable())) {
    rt.Fail(StrCat("cannot slice a value of type ", TypeName(object)));
  }
  const SliceBounds s = ClampSlice(rt, start, stop, step, Length(rt, object));
  if (is_string && s.step == 1) {
    return CharRange(rt, object.str(), static_cast<size_t>(s.start),
                     static_cast<size_t>(std::max(s.start, s.stop)));
  }
  const Values characters = is_string ? Iterate(rt, object) : rt.NewValues();
  const Values& source = is_string ? characters : object.list().items;
  Values items = rt.NewValues();
  for (int64_t i = s.start; s.step > 0 ? i < s.stop : i > s.stop; i += s.step) {
    rt.Charge(1);
    items.push_back(source[static_cast<size_t>(i)]);
  }
  if (!is_string) return rt.NewList(std::move(items), object.list().kind);
  TextBuilder out(rt);
  for (const Value& item : items) out.Append(item.str());
  return out.Finish(object.str().markup);
}

}  // namespace trireme::jinja
