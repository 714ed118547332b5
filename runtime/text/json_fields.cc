#include "runtime/text/json_fields.h"

#include "runtime/base/strings.h"

namespace trireme {

absl::Status JsonNode::Error(std::string_view what) const {
  return absl::InvalidArgumentError(StrCat(path_, ": ", what));
}

JsonNode JsonNode::Member(std::string_view key) const {
  std::string path = StrCat(path_, path_.empty() ? "" : ".", Printable(key));
  const boost::json::value* member = is_object() ? value_->as_object().if_contains(key) : nullptr;
  return JsonNode(member, std::move(path));
}

JsonNode JsonNode::Element(size_t index) const {
  return JsonNode(&value_->as_array()[index], StrCat(path_, "[", index, "]"));
}

absl::StatusOr<const boost::json::object*> JsonNode::AsObject() const {
  if (!is_object()) return Error(absent() ? "missing" : "not an object");
  return &value_->as_object();
}

absl::StatusOr<const boost::json::array*> JsonNode::AsArray() const {
  if (absent() || !value_->is_array()) return Error(absent() ? "missing" : "not an array");
  return &value_->as_array();
}

absl::StatusOr<std::string_view> JsonNode::AsString() const {
  if (!is_string()) return Error(absent() ? "missing" : "not a string");
  const boost::json::string& s = value_->as_string();
  return std::string_view(s.data(), s.size());
}

absl::StatusOr<int64_t> JsonNode::AsInt() const {
  if (absent()) return Error("missing");
  boost::system::error_code error;
  const auto number = value_->to_number<int64_t>(error);
  if (error) return Error("not an integer");
  return number;
}

absl::StatusOr<bool> JsonNode::AsBool(bool when_absent) const {
  if (absent()) return when_absent;
  if (!value_->is_bool()) return Error("neither true nor false");
  return value_->as_bool();
}

}  // namespace trireme
