// The `loop` variable: iteration over one `for`, with a look ahead of at most one item.
#pragma once

#include <optional>

#include "absl/functional/function_ref.h"
#include "runtime/text/jinja/runtime.h"

namespace trireme::jinja {

struct ForStmt;
struct Scope;

class Loop {
 public:
  using Filter = absl::FunctionRef<bool(const Value&)>;
  // `filter`: the `if` of the loop, asked lazily; the callable must live until Close().
  Loop(Runtime& rt, Values items, bool sized, std::optional<Filter> filter, int depth0)
      : rt_(rt), items_(std::move(items)), sized_(sized), filter_(filter), depth0_(depth0) {}

  bool Next(Value* item);  // false at the end
  void Close();            // the statement is over: nothing more will come
  int64_t Length();
  Value Attribute(std::string_view name);  // undefined for unknown names
  Value Cycle(const Args& args);
  Value Changed(const Args& args);

  int depth0() const { return depth0_; }
  // Set for loops marked `recursive`: what calling the loop renders.
  const ForStmt* recursive = nullptr;
  Scope* scope = nullptr;

 private:
  std::optional<Value> Pull();
  const Value* Peek();
  Runtime& rt_;
  Values items_;
  const bool sized_;
  std::optional<Filter> filter_;
  const int depth0_;
  size_t cursor_ = 0;
  int64_t index0_ = -1;
  std::optional<int64_t> length_;
  std::optional<Value> before_, current_, after_;
  std::optional<Values> last_changed_;
};

}  // namespace trireme::jinja
