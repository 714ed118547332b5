// What every operation of a rendering shares: the heap, the fuel, and the way to fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory_resource>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/text/jinja/value.h"

namespace trireme::jinja {

// Of an error message, which may quote the template.
inline constexpr size_t kMaxMessageBytes = 300;

// 1-based; columns count bytes of the template's line.
struct Position {
  uint32_t row = 1, column = 1;
};
std::string ToString(Position position);

// Thrown inside this folder only; Program's public functions turn it into their absl::Status.
class TemplateError : public std::exception {
 public:
  explicit TemplateError(absl::Status status) : status_(std::move(status)) {}
  const absl::Status& status() const { return status_; }

 private:
  absl::Status status_;
};

// Fuel. A step is one node visited, one item looked at, or kBytesPerStep bytes of text handled.
struct Limits {
  uint64_t max_steps = 10'000'000;
  size_t max_output_bytes = size_t{32} << 20;  // also of every string on the way
  size_t max_heap_bytes = size_t{256} << 20;
  int max_depth =
      800;  // nested evaluations: expressions, macro calls, printed or compared containers
};
inline constexpr size_t kBytesPerStep = 16;

// Memory of one rendering, released as a whole. Fails with RESOURCE_EXHAUSTED at its limit.
class Heap {
 public:
  explicit Heap(size_t max_bytes) : upstream_(max_bytes), arena_(&upstream_) {}
  std::pmr::memory_resource* resource() { return &arena_; }
  // T's destructor never runs: it may own nothing but memory of this heap.
  template <typename T, typename... Args>
  T* New(Args&&... args) {
    return new (arena_.allocate(sizeof(T), alignof(T))) T(std::forward<Args>(args)...);
  }

 private:
  class Upstream : public std::pmr::memory_resource {
   public:
    explicit Upstream(size_t max_bytes) : left_(max_bytes) {}

   private:
    void* do_allocate(size_t bytes, size_t alignment) override;
    void do_deallocate(void* p, size_t bytes, size_t alignment) override;
    bool do_is_equal(const memory_resource& other) const noexcept override {
      return this == &other;
    }
    size_t left_;
  };
  Upstream upstream_;
  std::pmr::monotonic_buffer_resource arena_;
};

// One rendering. Not thread-safe.
class Runtime {
 public:
  Runtime(const Limits& limits, absl::Time now)
      : limits_(limits), now_(now), heap_(limits.max_heap_bytes) {}
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  Heap& heap() { return heap_; }
  std::pmr::memory_resource* memory() { return heap_.resource(); }
  const Limits& limits() const { return limits_; }
  absl::Time now() const { return now_; }

  void Charge(uint64_t steps) {
    steps_ += steps;
    if (steps_ > limits_.max_steps) Exhausted("steps");
  }
  void ChargeBytes(size_t bytes) { Charge(1 + bytes / kBytesPerStep); }

  // Where the template is now; errors carry it.
  void set_position(Position position) { position_ = position; }
  Position position() const { return position_; }
  [[noreturn]] void Fail(std::string_view message) const;  // INVALID_ARGUMENT, with the position
  [[noreturn]] void FailAsTemplate(std::string_view words) const;  // raise_exception, cut to 1000
  [[noreturn]] void Exhausted(std::string_view what) const;        // RESOURCE_EXHAUSTED
  [[noreturn]] void FailUndefined(const Value& value) const;

  Values NewValues() { return Values(memory()); }
  Value NewList(Values items, ListKind kind = ListKind::kList) {
    return Value::Of(heap_.New<List>(kind, std::move(items)));
  }
  Dict* NewDict() { return heap_.New<Dict>(memory()); }
  // `bytes` is copied; none of it is the request's.
  Value NewString(std::string_view bytes);
  // `bytes` must outlive the rendering. With `user`, all of it is the request's.
  Value NewStringView(std::string_view bytes, bool user);

 private:
  friend class DepthGuard;
  const Limits limits_;
  const absl::Time now_;
  Heap heap_;
  uint64_t steps_ = 0;
  int depth_ = 0;
  Position position_;
};

// Held by every function that recurses along the template or its data.
class DepthGuard {
 public:
  explicit DepthGuard(Runtime& rt) : rt_(rt) {
    if (rt_.depth_ >= rt_.limits_.max_depth) rt_.Exhausted("nesting depth");
    ++rt_.depth_;
  }
  ~DepthGuard() { --rt_.depth_; }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  Runtime& rt_;
};

struct Args {
  absl::InlinedVector<Value, 4> positional;
  absl::InlinedVector<std::pair<const Str*, Value>, 2> named;
};

// Filters, tests, methods and global functions. `self`: the piped value or the object; missing for
// globals.
using BuiltinFn = Value (*)(Runtime& rt, const Value& self, const Args& args);
struct Builtin {
  std::string_view name;
  BuiltinFn fn;
};
struct Function {
  const Builtin* builtin;
  Value self;
};

// Null when there is no such name.
const Builtin* FindFilter(std::string_view name);
const Builtin* FindTest(std::string_view name);
const Builtin* FindGlobal(std::string_view name);
const Builtin* FindMethod(const Value& object, std::string_view name);

}  // namespace trireme::jinja
