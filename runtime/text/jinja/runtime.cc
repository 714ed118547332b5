#include "runtime/text/jinja/runtime.h"

#include <cstring>

#include "runtime/base/strings.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme::jinja {

std::string ToString(Position position) {
  return StrCat("line ", position.row, ", column ", position.column);
}

void* Heap::Upstream::do_allocate(size_t bytes, size_t alignment) {
  if (bytes > left_) {
    throw TemplateError(absl::ResourceExhaustedError("chat template: out of memory limit"));
  }
  left_ -= bytes;
  return ::operator new(bytes, std::align_val_t(alignment));
}

void Heap::Upstream::do_deallocate(void* p, size_t /*bytes*/, size_t alignment) {
  ::operator delete(p, std::align_val_t(alignment));
}

void Runtime::Fail(std::string_view message) const {
  throw TemplateError(absl::InvalidArgumentError(
      StrCat("chat template, ", ToString(position_), ": ", Printable(message, kMaxMessageBytes))));
}

void Runtime::FailAsTemplate(std::string_view message) const {
  constexpr size_t kMaxChars = 1000;
  const std::string_view shown = message.substr(0, CharOffset(message, kMaxChars));
  throw TemplateError(absl::InvalidArgumentError(ToAbsl(shown)));
}

void Runtime::Exhausted(std::string_view what) const {
  throw TemplateError(absl::ResourceExhaustedError(
      StrCat("chat template, ", ToString(position_), ": limit of ", what, " reached")));
}

void Runtime::FailUndefined(const Value& value) const {
  if (value.undefined_name() == nullptr) Fail("the value is undefined");
  Fail(StrCat("'", value.undefined_name()->bytes, "' is undefined"));
}

Value Runtime::NewString(std::string_view bytes) {
  if (bytes.size() > limits_.max_output_bytes) Exhausted("string bytes");
  ChargeBytes(bytes.size());
  char* copy = static_cast<char*>(memory()->allocate(bytes.size() + 1, 1));
  std::memcpy(copy, bytes.data(), bytes.size());
  return NewStringView(std::string_view(copy, bytes.size()), /*user=*/false);
}

Value Runtime::NewStringView(std::string_view bytes, bool user) {
  Str* str = heap_.New<Str>();
  str->bytes = bytes;
  str->num_chars = CountChars(bytes);
  if (user && !bytes.empty()) {
    str->whole = {0, bytes.size()};
    str->user = &str->whole;
    str->num_user = 1;
  }
  return Value::String(str);
}

}  // namespace trireme::jinja
