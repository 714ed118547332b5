#include "server/dialects/openai/json_body.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme::openai {

namespace json = boost::json;

absl::StatusOr<json::object> ParseJsonBody(std::string_view body) {
  absl::StatusOr<json::object> object = ParseJsonObject(body);
  if (object.ok() || !ErrorParam(object.status()).empty()) return object;
  return absl::InvalidArgumentError(
      StrCat("We could not parse the JSON body of your request: ", object.status().message(), "."));
}

FieldReader::FieldReader(const json::object& object, std::string path)
    : object_(object), path_(std::move(path)) {}

bool FieldReader::Has(std::string_view name) const {
  const json::value* value = object_.if_contains(name);
  return value != nullptr && !value->is_null();
}

const json::value* FieldReader::Find(std::string_view name) {
  if (!ok()) return nullptr;
  read_.push_back(name);
  const json::value* value = object_.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void FieldReader::Fail(absl::Status error) {
  if (ok()) error_ = std::move(error);
}

void FieldReader::FailType(std::string_view name, std::string_view expected,
                           const json::value& value) {
  const std::string path = Path(name);
  Fail(InvalidParam(path,
                    StrCat("Invalid type for '", path, "': expected ", expected, ", but got ",
                           KindName(value), " instead."),
                    "invalid_type"));
}

bool FieldReader::Bool(std::string_view name, bool* out) {
  const json::value* value = Find(name);
  if (value == nullptr) return false;
  if (!value->is_bool()) {
    FailType(name, "a boolean", *value);
    return false;
  }
  *out = value->get_bool();
  return true;
}

bool FieldReader::Integer(std::string_view name, int64_t* out) {
  const json::value* value = Find(name);
  if (value == nullptr) return false;
  if (!value->is_int64()) {
    FailType(name, "an integer", *value);
    return false;
  }
  *out = value->get_int64();
  return true;
}

bool FieldReader::Integer(std::string_view name, int* out) {
  int64_t wide = 0;
  if (!Integer(name, &wide)) return false;
  if (wide < std::numeric_limits<int>::min() || wide > std::numeric_limits<int>::max()) {
    const std::string path = Path(name);
    Fail(InvalidParam(path, StrCat("Invalid '", path, "': integer out of range."),
                      wide < 0 ? "integer_below_min_value" : "integer_above_max_value"));
    return false;
  }
  *out = static_cast<int>(wide);
  return true;
}

bool FieldReader::Number(std::string_view name, float* out) {
  const json::value* value = Find(name);
  if (value == nullptr) return false;
  if (!value->is_number()) {
    FailType(name, "a number", *value);
    return false;
  }
  const float number = value->to_number<float>();
  if (!std::isfinite(number)) {
    const std::string path = Path(name);
    Fail(InvalidParam(path, StrCat("Invalid '", path, "': number out of range."),
                      "decimal_above_max_value"));
    return false;
  }
  *out = number;
  return true;
}

bool FieldReader::String(std::string_view name, std::string* out) {
  const json::value* value = Find(name);
  if (value == nullptr) return false;
  if (!value->is_string()) {
    FailType(name, "a string", *value);
    return false;
  }
  *out = std::string(std::string_view(value->get_string()));
  return true;
}

const json::array* FieldReader::Array(std::string_view name) {
  const json::value* value = Find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) FailType(name, "an array", *value);
  return value->if_array();
}

const json::object* FieldReader::Object(std::string_view name) {
  const json::value* value = Find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) FailType(name, "an object", *value);
  return value->if_object();
}

void FieldReader::Refuse(std::string_view name, std::string_view why) {
  if (Find(name) == nullptr) return;
  const std::string path = Path(name);
  Fail(InvalidParam(path, StrCat("Unsupported parameter: '", path, "'. ", why),
                    "unsupported_parameter"));
}

void FieldReader::RefuseUnless(std::string_view name, const json::value& harmless,
                               std::string_view why) {
  const json::value* value = Find(name);
  if (value == nullptr || *value == harmless) return;
  const std::string path = Path(name);
  Fail(
      InvalidParam(path, StrCat("Unsupported value for '", path, "'. ", why), "unsupported_value"));
}

void FieldReader::Require(std::string_view name) {
  if (Has(name)) return;
  const std::string path = Path(name);
  Fail(InvalidParam(path, StrCat("Missing required parameter: '", path, "'."),
                    "missing_required_parameter"));
}

absl::Status FieldReader::Finish() {
  if (!ok()) return error_;
  for (const auto& member : object_) {
    if (std::find(read_.begin(), read_.end(), std::string_view(member.key())) != read_.end()) {
      continue;
    }
    const std::string path = Path(Printable(member.key()));
    return InvalidParam(path, StrCat("Unknown parameter: '", path, "'."), "unknown_parameter");
  }
  return absl::OkStatus();
}

}  // namespace trireme::openai
