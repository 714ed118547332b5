// A compiled template, ready to be rendered any number of times: the public face of this folder.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/text/jinja/runtime.h"

namespace trireme::jinja {

struct Tree;

struct Rendered {
  std::string text;
  std::vector<ByteRange> user;  // sorted, disjoint: what came from strings marked as the request's
};

// Immutable and thread-safe.
class Program {
 public:
  // INVALID_ARGUMENT with line and column for malformed or unsupported syntax; RESOURCE_EXHAUSTED beyond the limits.
  static absl::StatusOr<std::unique_ptr<const Program>> Compile(std::string_view source);
  ~Program();

  // Sets one variable. Those the template never mentions cost nothing. May throw TemplateError.
  class Variables {
   public:
    virtual ~Variables() = default;
    virtual void Set(std::string_view name, const Value& value) = 0;
  };
  // `define` sets the variables, with values made on the given runtime. Errors: INVALID_ARGUMENT (also with the words
  // of raise_exception) and RESOURCE_EXHAUSTED.
  absl::StatusOr<Rendered> Render(absl::FunctionRef<void(Runtime&, Variables&)> define,
                                  absl::Time now, const Limits& limits = {}) const;

 private:
  explicit Program(std::unique_ptr<const Tree> tree);
  const std::unique_ptr<const Tree> tree_;
};

}  // namespace trireme::jinja
