#include "server/node/client_input.h"

#include <boost/json/basic_parser_impl.hpp>
#include <cmath>
#include <limits>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

namespace json = boost::json;
using json::error_code;
using json::string_view;

// Why parsing ended early: rules of ours that Boost.JSON has no error for.
enum class Refusal { kNone, kTooManyKeys, kTooManyValues, kTooLargeNumber };

// Builds the value as Boost's own parser does, and counts.
class CountingHandler {
 public:
  static constexpr size_t max_object_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_array_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_key_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_string_size = std::numeric_limits<size_t>::max();

  CountingHandler() { stack.reset(); }

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) { return true; }
  bool on_object_end(size_t n, error_code& ec) {
    stack.push_object(n);
    return CountValue(ec);
  }
  bool on_array_begin(error_code&) { return true; }
  bool on_array_end(size_t n, error_code& ec) {
    stack.push_array(n);
    return CountValue(ec);
  }
  bool on_key_part(string_view part, size_t, error_code&) {
    stack.push_chars(part);
    return true;
  }
  bool on_key(string_view part, size_t, error_code& ec) {
    stack.push_key(part);
    return Count(&num_keys, kMaxJsonKeys, Refusal::kTooManyKeys, ec);
  }
  bool on_string_part(string_view part, size_t, error_code&) {
    stack.push_chars(part);
    return true;
  }
  bool on_string(string_view part, size_t, error_code& ec) {
    stack.push_string(part);
    return CountValue(ec);
  }
  bool on_number_part(string_view, error_code&) { return true; }
  bool on_int64(int64_t i, string_view, error_code& ec) {
    stack.push_int64(i);
    return CountValue(ec);
  }
  bool on_uint64(uint64_t u, string_view, error_code& ec) {
    stack.push_uint64(u);
    return CountValue(ec);
  }
  bool on_double(double d, string_view, error_code& ec) {
    if (!std::isfinite(d)) return Refuse(Refusal::kTooLargeNumber, ec);  // Boost reads 1e999
    stack.push_double(d);
    return CountValue(ec);
  }
  bool on_bool(bool b, error_code& ec) {
    stack.push_bool(b);
    return CountValue(ec);
  }
  bool on_null(error_code& ec) {
    stack.push_null();
    return CountValue(ec);
  }
  bool on_comment_part(string_view, error_code&) { return true; }
  bool on_comment(string_view, error_code&) { return true; }

  json::value_stack stack;
  size_t num_keys = 0;
  Refusal refusal = Refusal::kNone;

 private:
  bool CountValue(error_code& ec) {
    return Count(&num_values_, kMaxJsonValues, Refusal::kTooManyValues, ec);
  }
  bool Count(size_t* counter, size_t limit, Refusal why, error_code& ec) {
    return ++*counter <= limit || Refuse(why, ec);
  }
  bool Refuse(Refusal why, error_code& ec) {
    refusal = why;
    ec = json::error::array_too_large;  // any error: it ends the parse
    return false;
  }
  size_t num_values_ = 0;
};

// Depth is bounded by the parser.
size_t CountMembers(const json::value& value) {
  size_t members = 0;
  if (const json::object* object = value.if_object()) {
    members = object->size();
    for (const auto& member : *object) members += CountMembers(member.value());
  } else if (const json::array* array = value.if_array()) {
    for (const json::value& element : *array) members += CountMembers(element);
  }
  return members;
}

absl::Status BadJson(std::string_view why) { return absl::InvalidArgumentError(ToAbsl(why)); }

}  // namespace

absl::StatusOr<json::object> ParseJsonObject(std::string_view text) {
  json::parse_options options;
  options.max_depth = kMaxJsonDepth;
  json::basic_parser<CountingHandler> parser(options);
  error_code ec;
  const size_t consumed = parser.write_some(/*more=*/false, text.data(), text.size(), ec);
  CountingHandler& handler = parser.handler();
  switch (handler.refusal) {
    case Refusal::kTooManyKeys:
      return BadJson(StrCat("it has more than ", kMaxJsonKeys, " keys"));
    case Refusal::kTooManyValues:
      return BadJson(StrCat("it has more than ", kMaxJsonValues, " values"));
    case Refusal::kTooLargeNumber:
      return BadJson(StrCat("a number is too large at byte ", consumed));
    case Refusal::kNone:
      break;
  }
  if (!ec && consumed < text.size()) ec = json::error::extra_data;
  if (ec) return BadJson(StrCat(ec.message(), " at byte ", consumed));
  json::value root = handler.stack.release();
  // Objects keep one member per key: fewer members than keys means that a key came twice.
  if (CountMembers(root) != handler.num_keys) return BadJson("an object has the same key twice");
  if (!root.is_object()) return BadJson(StrCat("expected an object, but got ", KindName(root)));
  return std::move(root.get_object());
}

std::string_view KindName(const json::value& value) {
  switch (value.kind()) {
    case json::kind::null:
      return "null";
    case json::kind::bool_:
      return "a boolean";
    case json::kind::int64:
      return "an integer";
    case json::kind::uint64:
      return "an integer that is too large";
    case json::kind::double_:
      return "a decimal number";
    case json::kind::string:
      return "a string";
    case json::kind::array:
      return "an array";
    case json::kind::object:
      break;
  }
  return "an object";
}

absl::StatusOr<std::string> TemplateRole(std::string_view role, std::string_view param) {
  if (role == "developer") return std::string("system");
  if (role == "system" || role == "user" || role == "assistant") return std::string(role);
  if (role == "tool" || role == "function") {
    return InvalidParam(param, StrCat("Unsupported parameter: '", param, "'. ", kToolsNotSupported),
                        "unsupported_parameter");
  }
  return InvalidParam(param,
                      StrCat("Invalid value: '", Printable(role),
                             "'. Supported values are: 'system', 'developer', 'user' and "
                             "'assistant'."),
                      "invalid_value");
}

}  // namespace trireme
