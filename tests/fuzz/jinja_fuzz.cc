// A chat template NUL the JSON of its variables: refused with its place, out of fuel, or a text
// whose ranges of the request's own words lie within it, in order. Printing is stable: the same
// twice.
#include <boost/json.hpp>

#include "runtime/base/strings.h"
#include "runtime/text/jinja/from_json.h"
#include "runtime/text/jinja/program.h"
#include "runtime/text/utf8.h"
#include "tests/fuzz/fuzz.h"

namespace trireme::fuzz {
namespace {

// Far below the product's, so that an input takes milliseconds.
constexpr jinja::Limits kLimits = {
    .max_steps = 100'000, .max_output_bytes = 1 << 20, .max_heap_bytes = 16 << 20};

absl::StatusOr<jinja::Rendered> Render(const jinja::Program& program,
                                       const boost::json::object& variables) {
  const auto define = [&](jinja::Runtime& rt, jinja::Program::Variables& out) {
    for (const auto& [name, value] : variables) {
      out.Set({name.data(), name.size()}, jinja::FromJson(rt, value));
    }
  };
  return program.Render(define, absl::FromUnixSeconds(1'700'000'000), kLimits);
}

}  // namespace

void OneInput(std::string_view data) {
  const std::vector<std::string_view> parts = Parts(data, 2);
  const auto program = jinja::Program::Compile(parts[0]);
  if (!program.ok()) {
    FUZZ_CHECK(
        absl::IsInvalidArgument(program.status()) || absl::IsResourceExhausted(program.status()),
        FromAbsl(program.status().message()));
    FUZZ_CHECK(!program.status().message().empty(), "");
    return;
  }
  boost::json::error_code error;
  boost::json::value json = boost::json::parse({parts[1].data(), parts[1].size()}, error);
  const boost::json::object variables =
      error || !json.is_object()
          ? boost::json::object{{"messages", {{{"role", "user"}, {"content", "Hi <|im_end|>"}}}}}
          : std::move(json.get_object());
  const auto rendered = Render(**program, variables);
  if (!rendered.ok()) {
    FUZZ_CHECK(
        absl::IsInvalidArgument(rendered.status()) || absl::IsResourceExhausted(rendered.status()),
        FromAbsl(rendered.status().message()));
    return;
  }
  FUZZ_CHECK(rendered->text.size() <= kLimits.max_output_bytes, "fuel");
  FUZZ_CHECK(!IsValidUtf8(parts[0]) || IsValidUtf8(rendered->text), rendered->text);
  size_t end = 0;
  for (const jinja::ByteRange& range : rendered->user) {
    FUZZ_CHECK(range.begin >= end && range.begin < range.end, "ranges are in order");
    end = range.end;
  }
  FUZZ_CHECK(end <= rendered->text.size(), "ranges lie within the text");
  const auto again = Render(**program, variables);
  FUZZ_CHECK(again.ok() && again->text == rendered->text, rendered->text);
}

}  // namespace trireme::fuzz
