// Filters on sequences and mappings.
#include <algorithm>
#include <functional>
#include <optional>

#include "runtime/text/jinja/args.h"

namespace trireme::jinja {
namespace {

Value Generator(Runtime& rt, Values items) {
  return rt.NewList(std::move(items), ListKind::kGenerator);
}

// Lower case of strings, so that sorting and grouping ignore case.
Value IgnoreCase(Runtime& rt, const Value& value) {
  return value.is_string() ? Lower(rt, value, Args()) : value;
}

// Reads "user.name" or "items.0" from an item.
class Path {
 public:
  Path(Runtime& rt, const Value& attribute, Value otherwise = Value::Missing())
      : rt_(rt), parts_(rt.NewValues()), otherwise_(otherwise) {
    if (attribute.is_integral()) {
      parts_.push_back(attribute);
      return;
    }
    const Str& text = StrArg(rt, attribute);
    for (size_t begin = 0; begin <= text.bytes.size();) {
      const size_t end = std::min(text.bytes.find('.', begin), text.bytes.size());
      parts_.push_back(Part(Substring(rt, text, begin, end)));
      begin = end + 1;
    }
  }

  Value Read(Value item) const {
    for (const Value& part : parts_) {
      item = GetItem(rt_, item, part);
      if (item.is_undefined() && !otherwise_.is_missing() && !otherwise_.is_none()) {
        item = otherwise_;
      }
    }
    return item;
  }

 private:
  static Value Part(const Value& text) {
    const std::string_view digits = text.str().bytes;
    if (digits.empty() || digits.size() > 9) return text;
    int64_t index = 0;
    for (char c : digits) {
      if (c < '0' || c > '9') return text;
      index = index * 10 + (c - '0');
    }
    return Value::Int(index);
  }
  Runtime& rt_;
  Values parts_;
  Value otherwise_;
};

bool IsGiven(const Value& value) { return !value.is_missing() && !value.is_none(); }

// The key to compare an item by: an attribute or the item, with or without case.
class KeyReader {
 public:
  KeyReader(Runtime& rt, const Value& attribute, bool case_sensitive,
            Value otherwise = Value::Missing())
      : rt_(rt), case_sensitive_(case_sensitive) {
    if (IsGiven(attribute)) path_.emplace(rt, attribute, otherwise);
  }
  Value Exact(const Value& item) const { return path_ ? path_->Read(item) : item; }
  Value operator()(const Value& item) const {
    const Value key = Exact(item);
    return case_sensitive_ ? key : IgnoreCase(rt_, key);
  }

 private:
  Runtime& rt_;
  const bool case_sensitive_;
  std::optional<Path> path_;
};

struct Keyed {
  Value key, item;
};

void StableSort(Runtime& rt, bool reverse, std::vector<Keyed>* items) {
  std::stable_sort(items->begin(), items->end(), [&](const Keyed& a, const Keyed& b) {
    return reverse ? Less(rt, b.key, a.key) : Less(rt, a.key, b.key);
  });
}

Value LengthFilter(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return Value::Int(Length(rt, self));
}

Value FirstFilter(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  if (self.is(Type::kList) && !self.list().sized()) {  // takes one item of it
    List& list = self.list();
    return list.cursor < list.items.size() ? list.items[list.cursor++] : Value::Undefined();
  }
  if (self.is_string()) {
    if (self.str().num_chars == 0) return Value::Undefined();
    return CharRange(rt, self.str(), 0, 1);
  }
  const Values items = Iterate(rt, self);
  return items.empty() ? Value::Undefined() : items.front();
}

Value LastFilter(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  if (self.is(Type::kList) && !self.list().sized()) rt.Fail("a generator is not reversible");
  const Values items = Iterate(rt, self);
  return items.empty() ? Value::Undefined() : items.back();
}

Value ListFilter(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return rt.NewList(Iterate(rt, self));
}

Value JoinFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [separator, attribute] = Bind(rt, args, {"d", "attribute"});
  const KeyReader read(rt, attribute, true);
  const Value between = separator.is_missing() ? rt.NewString("") : ToStr(rt, separator);
  TextBuilder out(rt);
  bool first = true;
  for (const Value& item : Iterate(rt, self)) {
    if (!first) out.Append(between.str());
    first = false;
    AppendStr(rt, read.Exact(item), &out);
  }
  return out.Finish();
}

Value ReverseFilter(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  if (self.is_string()) return GetSlice(rt, self, Value::None(), Value::None(), Value::Int(-1));
  Values items = Iterate(rt, self);
  std::reverse(items.begin(), items.end());
  const bool lazy = !self.is(Type::kList) || self.list().sized();
  return lazy ? Generator(rt, std::move(items)) : rt.NewList(std::move(items));
}

Value SortFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [reverse, case_sensitive, attribute] =
      Bind(rt, args, {"reverse", "case_sensitive", "attribute"});
  const bool exact = BoolArg(case_sensitive, false);
  std::vector<KeyReader> readers;  // "a,b": by a, then by b
  if (attribute.is_string()) {
    const Str& text = attribute.str();
    for (size_t begin = 0; begin <= text.bytes.size();) {
      const size_t end = std::min(text.bytes.find(',', begin), text.bytes.size());
      readers.emplace_back(rt, Substring(rt, text, begin, end), exact);
      begin = end + 1;
    }
  } else {
    readers.emplace_back(rt, attribute, exact);
  }
  std::vector<Keyed> keyed;
  for (const Value& item : Iterate(rt, self)) {
    if (readers.size() == 1) {
      keyed.push_back({readers[0](item), item});
      continue;
    }
    Values keys = rt.NewValues();
    for (const KeyReader& read : readers) keys.push_back(read(item));
    keyed.push_back({rt.NewList(std::move(keys)), item});
  }
  StableSort(rt, BoolArg(reverse, false), &keyed);
  Values items = rt.NewValues();
  for (const Keyed& k : keyed) items.push_back(k.item);
  return rt.NewList(std::move(items));
}

Value Pair(Runtime& rt, const Value& a, const Value& b) {
  Values items = rt.NewValues();
  items.assign({a, b});
  return rt.NewList(std::move(items), ListKind::kTuple);
}

Value DictSort(Runtime& rt, const Value& self, const Args& args) {
  const auto [case_sensitive, by_arg, reverse] =
      Bind(rt, args, {"case_sensitive", "by", "reverse"});
  if (!self.is(Type::kDict)) rt.Fail(StrCat("dictsort wants a dict, not ", TypeName(self)));
  const std::string_view by = by_arg.is_missing() ? "key" : StrArg(rt, by_arg).bytes;
  if (by != "key" && by != "value") rt.Fail("dictsort sorts by 'key' or 'value'");
  const KeyReader read(rt, Value::Missing(), BoolArg(case_sensitive, false));
  std::vector<Keyed> keyed;
  for (const Dict::Entry& entry : self.dict().entries()) {
    rt.Charge(1);
    keyed.push_back(
        {read(by == "key" ? entry.key : entry.value), Pair(rt, entry.key, entry.value)});
  }
  StableSort(rt, BoolArg(reverse, false), &keyed);
  Values items = rt.NewValues();
  for (const Keyed& k : keyed) items.push_back(k.item);
  return rt.NewList(std::move(items));
}

Value ItemsFilter(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  Values items = rt.NewValues();
  if (!self.is_undefined()) {
    if (!self.is(Type::kDict)) rt.Fail("can only get item pairs from a mapping");
    for (const Dict::Entry& entry : self.dict().entries()) {
      rt.Charge(1);
      items.push_back(Pair(rt, entry.key, entry.value));
    }
  }
  return Generator(rt, std::move(items));
}

Value UniqueFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [case_sensitive, attribute] = Bind(rt, args, {"case_sensitive", "attribute"});
  const KeyReader read(rt, attribute, BoolArg(case_sensitive, false));
  Dict* seen = rt.NewDict();
  Values items = rt.NewValues();
  for (const Value& item : Iterate(rt, self)) {
    const Value key = read(item);
    if (!IsHashable(rt, key)) rt.Fail(StrCat("unhashable type: ", TypeName(key)));
    if (seen->Find(key) != nullptr) continue;
    seen->Set(key, Value::None());
    items.push_back(item);
  }
  return Generator(rt, std::move(items));
}

template <bool want_max>
Value Extreme(Runtime& rt, const Value& self, const Args& args) {
  const auto [case_sensitive, attribute] = Bind(rt, args, {"case_sensitive", "attribute"});
  const KeyReader read(rt, attribute, BoolArg(case_sensitive, false));
  std::optional<Keyed> best;
  for (const Value& item : Iterate(rt, self)) {
    const Value key = read(item);
    if (!best || (want_max ? Less(rt, best->key, key) : Less(rt, key, best->key))) {
      best = Keyed{key, item};
    }
  }
  return best ? best->item : Value::Undefined();
}

Value SumFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [attribute, start] = Bind(rt, args, {"attribute", "start"});
  const KeyReader read(rt, attribute, true);
  Value sum = start.is_missing() ? Value::Int(0) : start;
  if (sum.is_string()) rt.Fail("sum() can't sum strings");
  for (const Value& item : Iterate(rt, self)) {
    sum = Arithmetic(rt, BinaryOp::kAdd, sum, read.Exact(item));
  }
  return sum;
}

Value BatchFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [count_arg, fill] = Bind(rt, args, {"linecount", "fill_with"}, 1);
  const int64_t count = IntArg(rt, count_arg, 0);
  Values batches = rt.NewValues(), batch = rt.NewValues();
  for (const Value& item : Iterate(rt, self)) {
    if (static_cast<int64_t>(batch.size()) == count) {
      batches.push_back(rt.NewList(std::move(batch)));
      batch = rt.NewValues();
    }
    batch.push_back(item);
  }
  if (!batch.empty()) {
    while (IsGiven(fill) && static_cast<int64_t>(batch.size()) < count) {
      rt.Charge(1);
      batch.push_back(fill);
    }
    batches.push_back(rt.NewList(std::move(batch)));
  }
  return Generator(rt, std::move(batches));
}

Value SliceFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [count_arg, fill] = Bind(rt, args, {"slices", "fill_with"}, 1);
  const int64_t count = IntArg(rt, count_arg, 0);
  const Values items = Iterate(rt, self);
  if (count == 0) rt.Fail("division by zero");
  Values slices = rt.NewValues();
  const int64_t size = static_cast<int64_t>(items.size()), each = size / count,
                longer = size % count;
  auto next = items.begin();
  for (int64_t i = 0; i < count; ++i) {
    rt.Charge(1);
    const auto end = next + each + (i < longer ? 1 : 0);
    Values slice = rt.NewValues();
    slice.assign(next, end);
    next = end;
    if (IsGiven(fill) && i >= longer) slice.push_back(fill);
    slices.push_back(rt.NewList(std::move(slice)));
  }
  return Generator(rt, std::move(slices));
}

Value GroupBy(Runtime& rt, const Value& self, const Args& args) {
  const auto [attribute, otherwise, case_sensitive] =
      Bind(rt, args, {"attribute", "default", "case_sensitive"}, 1);
  const KeyReader read(rt, attribute, BoolArg(case_sensitive, false), otherwise);
  std::vector<Keyed> keyed;
  for (const Value& item : Iterate(rt, self)) keyed.push_back({read(item), item});
  StableSort(rt, false, &keyed);
  Values groups = rt.NewValues();
  for (size_t begin = 0, end; begin < keyed.size(); begin = end) {
    Values members = rt.NewValues();
    for (end = begin; end < keyed.size() && Equal(rt, keyed[end].key, keyed[begin].key); ++end) {
      members.push_back(keyed[end].item);
    }
    const Value group = Pair(rt, read.Exact(keyed[begin].item), rt.NewList(std::move(members)));
    group.list().group = true;
    groups.push_back(group);
  }
  return rt.NewList(std::move(groups));
}

// The rest of the arguments, to be passed on.
Args Tail(const Args& args, size_t from) {
  Args tail;
  tail.positional.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(from),
                         args.positional.end());
  tail.named = args.named;
  return tail;
}

Value MapFilter(Runtime& rt, const Value& self, const Args& args) {
  Values mapped = rt.NewValues();
  if (!Truthy(self)) return Generator(rt, std::move(mapped));
  if (args.positional.empty()) {
    const auto [attribute, otherwise] = Bind(rt, args, {"attribute", "default"}, 1);
    const Path path(rt, attribute, otherwise);
    for (const Value& item : Iterate(rt, self)) mapped.push_back(path.Read(item));
    return Generator(rt, std::move(mapped));
  }
  const Builtin* filter = FindFilter(StrArg(rt, args.positional[0]).bytes);
  if (filter == nullptr) rt.Fail("map: no such filter");
  DepthGuard guard(rt);  // `map` of `map` of ...
  const Args rest = Tail(args, 1);
  for (const Value& item : Iterate(rt, self)) mapped.push_back(filter->fn(rt, item, rest));
  return Generator(rt, std::move(mapped));
}

template <bool keep, bool by_attribute>
Value SelectFilter(Runtime& rt, const Value& self, const Args& args) {
  Values selected = rt.NewValues();
  if (!Truthy(self)) return Generator(rt, std::move(selected));
  const size_t first = by_attribute ? 1 : 0;
  std::optional<Path> path;
  if (by_attribute) {
    if (args.positional.empty()) rt.Fail("missing parameter for attribute name");
    path.emplace(rt, args.positional[0]);
  }
  const Builtin* test = nullptr;
  Args rest;
  if (args.positional.size() > first) {
    test = FindTest(StrArg(rt, args.positional[first]).bytes);
    if (test == nullptr) rt.Fail("no such test");
    rest = Tail(args, first + 1);
  }
  for (const Value& item : Iterate(rt, self)) {
    const Value subject = path ? path->Read(item) : item;
    const bool passes = Truthy(test != nullptr ? test->fn(rt, subject, rest) : subject);
    if (passes == keep) selected.push_back(item);
  }
  return Generator(rt, std::move(selected));
}

constexpr Builtin kFilters[] = {
    {"batch", BatchFilter},
    {"count", LengthFilter},
    {"dictsort", DictSort},
    {"first", FirstFilter},
    {"groupby", GroupBy},
    {"items", ItemsFilter},
    {"join", JoinFilter},
    {"last", LastFilter},
    {"length", LengthFilter},
    {"list", ListFilter},
    {"map", MapFilter},
    {"max", Extreme<true>},
    {"min", Extreme<false>},
    {"reject", SelectFilter<false, false>},
    {"rejectattr", SelectFilter<false, true>},
    {"reverse", ReverseFilter},
    {"select", SelectFilter<true, false>},
    {"selectattr", SelectFilter<true, true>},
    {"slice", SliceFilter},
    {"sort", SortFilter},
    {"sum", SumFilter},
    {"unique", UniqueFilter},
};

}  // namespace

const Builtin* FindSequenceFilter(std::string_view name) { return FindIn(kFilters, name); }

}  // namespace trireme::jinja
