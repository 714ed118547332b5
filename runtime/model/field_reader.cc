#include "runtime/model/field_reader.h"

#include <boost/json/value.hpp>
#include <cmath>

#include "runtime/base/strings.h"

namespace trireme {

const boost::json::value* JsonFields::Get(std::string_view key) const {
  const boost::json::value* value = object_.if_contains({key.data(), key.size()});
  return value != nullptr && !value->is_null() ? value : nullptr;
}

bool JsonFields::Has(std::string_view key) const { return Get(key) != nullptr; }

std::optional<int64_t> JsonFields::Int(std::string_view key) const {
  const boost::json::value* value = Get(key);
  if (value == nullptr || !value->is_int64()) return std::nullopt;
  return value->get_int64();
}

std::optional<double> JsonFields::Float(std::string_view key) const {
  const boost::json::value* value = Get(key);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  return value->to_number<double>();
}

std::optional<bool> JsonFields::Bool(std::string_view key) const {
  const boost::json::value* value = Get(key);
  if (value == nullptr || !value->is_bool()) return std::nullopt;
  return value->get_bool();
}

std::optional<std::string> JsonFields::String(std::string_view key) const {
  const boost::json::value* value = Get(key);
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return std::string(value->get_string());
}

bool GgufFields::Has(std::string_view key) const { return file_.Has(Full(key)); }
std::optional<int64_t> GgufFields::Int(std::string_view key) const { return file_.Int(Full(key)); }
std::optional<double> GgufFields::Float(std::string_view key) const {
  if (const std::optional<int64_t> value = file_.Int(Full(key))) return static_cast<double>(*value);
  return file_.Float(Full(key));
}
std::optional<bool> GgufFields::Bool(std::string_view key) const { return file_.Bool(Full(key)); }
std::optional<std::string> GgufFields::String(std::string_view key) const {
  return file_.String(Full(key));
}

int FieldReader::Size(std::string_view key, int max, std::optional<int> fallback, int min) {
  if (fallback && !source_.Has(key)) return *fallback;
  const std::optional<int64_t> value = source_.Int(key);
  if (value && *value >= min && *value <= max) return static_cast<int>(*value);
  Fail(key, StrCat("an integer from ", min, " to ", max, " is wanted"));
  return min;
}

double FieldReader::Positive(std::string_view key, std::optional<double> fallback) {
  if (fallback && !source_.Has(key)) return *fallback;
  const std::optional<double> value = source_.Float(key);
  if (value && std::isfinite(*value) && *value > 0) return *value;
  Fail(key, "a number above 0 is wanted");
  return 1.0;
}

bool FieldReader::Bool(std::string_view key, bool fallback) {
  if (!source_.Has(key)) return fallback;
  const std::optional<bool> value = source_.Bool(key);
  if (!value) Fail(key, "true or false is wanted");
  return value.value_or(fallback);
}

std::string FieldReader::String(std::string_view key, std::string_view fallback) {
  if (!source_.Has(key)) return std::string(fallback);
  const std::optional<std::string> value = source_.String(key);
  if (!value) Fail(key, "a string is wanted");
  return value.value_or("");
}

void FieldReader::Unsupported(std::string_view key, std::optional<double> neutral) {
  if (!source_.Has(key) || source_.Bool(key) == false) return;
  if (neutral && source_.Float(key) == *neutral) return;
  Fail(key, "not supported for this architecture");
}

void FieldReader::Fail(std::string_view key, std::string_view message) {
  Fail(absl::InvalidArgumentError(StrCat(prefix_, Printable(key), ": ", message)));
}

void FieldReader::Fail(const absl::Status& status) { status_.Update(status); }

}  // namespace trireme
