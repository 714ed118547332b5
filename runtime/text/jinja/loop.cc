#include "runtime/text/jinja/loop.h"

#include "runtime/text/jinja/operators.h"

namespace trireme::jinja {

std::optional<Value> Loop::Pull() {
  while (cursor_ < items_.size()) {
    rt_.Charge(1);
    const Value item = items_[cursor_++];
    if (!filter_ || (*filter_)(item)) return item;
  }
  return std::nullopt;
}

const Value* Loop::Peek() {
  if (!after_) after_ = Pull();
  return after_ ? &*after_ : nullptr;
}

bool Loop::Next(Value* item) {
  if (Peek() == nullptr) return false;
  before_ = current_;
  current_ = after_;
  after_.reset();
  ++index0_;
  *item = *current_;
  return true;
}

void Loop::Close() {
  if (filter_) cursor_ = items_.size();
  filter_.reset();
}

int64_t Loop::Length() {
  if (length_) return *length_;
  if (sized_ && !filter_) {
    length_ = static_cast<int64_t>(items_.size());
    return *length_;
  }
  Values rest = rt_.NewValues();
  while (std::optional<Value> item = Pull()) rest.push_back(*item);
  length_ = static_cast<int64_t>(rest.size()) + index0_ + 1 + (after_ ? 1 : 0);
  items_ = std::move(rest);
  cursor_ = 0;
  filter_.reset();
  return *length_;
}

Value Loop::Attribute(std::string_view name) {
  if (name == "index") return Value::Int(index0_ + 1);
  if (name == "index0") return Value::Int(index0_);
  if (name == "first") return Value::Bool(index0_ == 0);
  if (name == "last") return Value::Bool(Peek() == nullptr);
  if (name == "length") return Value::Int(Length());
  if (name == "revindex") return Value::Int(Length() - index0_);
  if (name == "revindex0") return Value::Int(Length() - index0_ - 1);
  if (name == "depth") return Value::Int(depth0_ + 1);
  if (name == "depth0") return Value::Int(depth0_);
  if (name == "previtem") return before_ ? *before_ : Value::Undefined();
  if (name == "nextitem") return Peek() != nullptr ? *after_ : Value::Undefined();
  return Value::Undefined();
}

Value Loop::Cycle(const Args& args) {
  if (args.positional.empty()) rt_.Fail("no items for cycling given");
  return args.positional[static_cast<size_t>(index0_) % args.positional.size()];
}

Value Loop::Changed(const Args& args) {
  bool same = last_changed_ && last_changed_->size() == args.positional.size();
  for (size_t i = 0; same && i < args.positional.size(); ++i) {
    same = Equal(rt_, (*last_changed_)[i], args.positional[i]);
  }
  if (same) return Value::Bool(false);
  last_changed_.emplace(args.positional.begin(), args.positional.end(), rt_.memory());
  return Value::Bool(true);
}

}  // namespace trireme::jinja
