// Global functions, and the methods of collections and loops.
#include <ctime>

#include "runtime/text/jinja/args.h"
#include "runtime/text/jinja/loop.h"

namespace trireme::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // Jinja's sandbox has the same limit

Value Range(Runtime& rt, const Value&, const Args& args) {
  const auto [a, b, c] = Bind(rt, args, {"start", "stop", "step"}, 1);
  const int64_t start = b.is_missing() ? 0 : IntArg(rt, a, 0);
  const int64_t stop = b.is_missing() ? IntArg(rt, a, 0) : IntArg(rt, b, 0);
  const int64_t step = IntArg(rt, c, 1);
  if (step == 0) rt.Fail("range() step must not be zero");
  Values numbers = rt.NewValues();
  const auto distance = static_cast<__int128>(stop) - start;
  const __int128 count = step > 0 ? (distance + step - 1) / step : (distance + step + 1) / step;
  if (count > kMaxRange) rt.Exhausted("range items");
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i) {
    rt.Charge(1);
    numbers.push_back(Value::Int(start + i * step));
  }
  return rt.NewList(std::move(numbers), ListKind::kRange);
}

// Entries of a mapping or of pairs, then the keyword arguments.
void Fill(Runtime& rt, const Args& args, Dict* dict) {
  if (args.positional.size() > 1) rt.Fail("at most 1 positional argument expected");
  for (const Value& source : args.positional) {
    if (source.is(Type::kDict)) {
      for (const Dict::Entry& entry : source.dict().entries()) {
        ChargeKey(rt, entry.key);
        dict->Set(entry.key, entry.value);
      }
      continue;
    }
    for (const Value& item : Iterate(rt, source)) {
      const Values pair = Iterate(rt, item);
      if (pair.size() != 2) rt.Fail("a pair of key and value expected");
      if (!IsHashable(rt, pair[0])) rt.Fail(StrCat("unhashable type: ", TypeName(pair[0])));
      dict->Set(pair[0], pair[1]);
    }
  }
  for (const auto& [name, value] : args.named) dict->Set(Value::String(name), value);
}

Value DictFn(Runtime& rt, const Value&, const Args& args) {
  Dict* dict = rt.NewDict();
  Fill(rt, args, dict);
  return Value::Of(dict);
}

Value NamespaceFn(Runtime& rt, const Value&, const Args& args) {
  auto* ns = rt.heap().New<Namespace>(rt.memory());
  Fill(rt, args, &ns->attributes);
  return Value::Of(ns);
}

Value RaiseException(Runtime& rt, const Value&, const Args& args) {
  const auto [message] = Bind(rt, args, {"message"}, 1);
  rt.FailAsTemplate(ToStr(rt, message).str().bytes);
}

// UTC: the output must not depend on where the server stands.
Value StrftimeNow(Runtime& rt, const Value&, const Args& args) {
  const auto [format] = Bind(rt, args, {"format"}, 1);
  const std::string text(StrArg(rt, format).bytes);
  constexpr size_t kMaxFormat = 200, kMaxResult = 4096;
  if (text.size() > kMaxFormat) rt.Exhausted("time format bytes");
  if (text.empty()) return rt.NewString("");
  const std::tm tm = absl::ToTM(rt.now(), absl::UTCTimeZone());
  char result[kMaxResult];
  return rt.NewString(
      std::string_view(result, std::strftime(result, kMaxResult, text.c_str(), &tm)));
}

constexpr Builtin kGlobals[] = {
    {"dict", DictFn}, {"namespace", NamespaceFn},    {"raise_exception", RaiseException},
    {"range", Range}, {"strftime_now", StrftimeNow},
};

Value DictView(Runtime& rt, const Value& self, ListKind kind) {
  Values items = rt.NewValues();
  for (const Dict::Entry& entry : self.dict().entries()) {
    rt.Charge(1);
    if (kind == ListKind::kKeys) items.push_back(entry.key);
    if (kind == ListKind::kValues) items.push_back(entry.value);
    if (kind != ListKind::kItems) continue;
    Values pair = rt.NewValues();
    pair.assign({entry.key, entry.value});
    items.push_back(rt.NewList(std::move(pair), ListKind::kTuple));
  }
  return rt.NewList(std::move(items), kind);
}

template <ListKind kind>
Value ViewMethod(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return DictView(rt, self, kind);
}

Value DictGet(Runtime& rt, const Value& self, const Args& args) {
  if (!args.named.empty()) rt.Fail("get() takes no keyword arguments");
  const auto [key, otherwise] = Bind(rt, args, {"key", "default"}, 1);
  if (!IsHashable(rt, key)) rt.Fail(StrCat("unhashable type: ", TypeName(key)));
  if (const Value* found = self.dict().Find(key)) return *found;
  return otherwise.is_missing() ? Value::None() : otherwise;
}

Value DictCopy(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  Args source;
  source.positional.push_back(self);
  return DictFn(rt, Value::Missing(), source);
}

Value ListCount(Runtime& rt, const Value& self, const Args& args) {
  const auto [wanted] = Bind(rt, args, {"value"}, 1);
  int64_t count = 0;
  for (const Value& item : self.list().items) count += Equal(rt, item, wanted);
  return Value::Int(count);
}

Value ListIndex(Runtime& rt, const Value& self, const Args& args) {
  const auto [wanted] = Bind(rt, args, {"value"}, 1);
  const Values& items = self.list().items;
  for (size_t i = 0; i < items.size(); ++i) {
    if (Equal(rt, items[i], wanted)) return Value::Int(static_cast<int64_t>(i));
  }
  rt.Fail("the value is not in the list");
}

Value ListCopy(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return rt.NewList(Iterate(rt, self));
}

Value LoopCycle(Runtime&, const Value& self, const Args& args) { return self.loop().Cycle(args); }
Value LoopChanged(Runtime&, const Value& self, const Args& args) {
  return self.loop().Changed(args);
}

// What changes its object is not there: the sandbox is immutable.
constexpr Builtin kDictMethods[] = {
    {"copy", DictCopy},
    {"get", DictGet},
    {"items", ViewMethod<ListKind::kItems>},
    {"keys", ViewMethod<ListKind::kKeys>},
    {"values", ViewMethod<ListKind::kValues>},
};
constexpr Builtin kListMethods[] = {{"count", ListCount}, {"index", ListIndex}, {"copy", ListCopy}};
constexpr Builtin kLoopMethods[] = {{"changed", LoopChanged}, {"cycle", LoopCycle}};

}  // namespace

const Builtin* FindGlobal(std::string_view name) { return FindIn(kGlobals, name); }

const Builtin* FindMethod(const Value& object, std::string_view name) {
  switch (object.type()) {
    case Type::kString:
      return FindStringMethod(name);
    case Type::kDict:
      return FindIn(kDictMethods, name);
    case Type::kLoop:
      return FindIn(kLoopMethods, name);
    case Type::kList:
      if (!object.list().indexable()) return nullptr;
      if (object.list().kind != ListKind::kList && name == "copy") return nullptr;
      return FindIn(kListMethods, name);
    default:
      return nullptr;
  }
}

}  // namespace trireme::jinja
