#include "runtime/text/jinja/value.h"

#include <algorithm>

#include "runtime/text/jinja/operators.h"

namespace trireme::jinja {
namespace {

constexpr size_t kAbsent = ~size_t{0};

// Equality of hashable values; their depth is bounded by IsHashable.
bool KeysEqual(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_integral() && b.is_integral() ? a.integer() == b.integer()
                                              : a.number() == b.number();
  }
  if (a.type() != b.type()) return false;
  if (a.is_string()) return a.str().bytes == b.str().bytes;
  if (a.is_none() || a.is_undefined()) return true;
  if (!a.is(Type::kList)) return a.identity() == b.identity();
  const List &x = a.list(), &y = b.list();
  if (x.kind != ListKind::kTuple || y.kind != ListKind::kTuple) return &x == &y;
  return std::equal(x.items.begin(), x.items.end(), y.items.begin(), y.items.end(), KeysEqual);
}

}  // namespace

size_t Dict::FindIndex(const Value& key) const {
  if (index_.empty()) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (KeysEqual(entries_[i].key, key)) return i;
    }
    return kAbsent;
  }
  const auto [begin, end] = index_.equal_range(Hash(key));
  for (auto it = begin; it != end; ++it) {
    if (KeysEqual(entries_[it->second].key, key)) return it->second;
  }
  return kAbsent;
}

const Value* Dict::Find(const Value& key) const {
  const size_t i = FindIndex(key);
  return i == kAbsent ? nullptr : &entries_[i].value;
}

const Value* Dict::Find(std::string_view key) const {
  Str str;
  str.bytes = key;
  return Find(Value::String(&str));
}

void Dict::Set(const Value& key, const Value& value) {
  const size_t i = FindIndex(key);
  if (i != kAbsent) {
    entries_[i].value = value;
    return;
  }
  entries_.push_back({key, value});
  if (entries_.size() < kLinear) return;
  if (entries_.size() == kLinear) {
    for (size_t j = 0; j < entries_.size(); ++j) index_.emplace(Hash(entries_[j].key), j);
  } else {
    index_.emplace(Hash(key), entries_.size() - 1);
  }
}

}  // namespace trireme::jinja
