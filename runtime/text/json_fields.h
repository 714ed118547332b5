// Typed access to members of JSON objects whose errors name the member's path
// ("pre_tokenizer.pretokenizers[1].type"). JSON null counts as absent.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace trireme {

// An object or array together with where it stands in the document; the document owns it.
class JsonNode {
 public:
  JsonNode(const boost::json::value* value, std::string path)
      : value_(value), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  bool is_object() const { return value_ != nullptr && value_->is_object(); }
  bool is_string() const { return value_ != nullptr && value_->is_string(); }
  bool absent() const { return value_ == nullptr || value_->is_null(); }
  const boost::json::value* value() const { return value_; }

  absl::Status Error(std::string_view what) const;  // INVALID_ARGUMENT "path: what"

  // A member of this object; absent when this is no object or has no such member.
  JsonNode Member(std::string_view key) const;
  JsonNode Element(size_t index) const;  // precondition: AsArray succeeded and index < size

  absl::StatusOr<const boost::json::object*> AsObject() const;
  absl::StatusOr<const boost::json::array*> AsArray() const;
  absl::StatusOr<std::string_view> AsString() const;
  absl::StatusOr<int64_t> AsInt() const;
  absl::StatusOr<bool> AsBool(bool when_absent) const;

 private:
  const boost::json::value* value_;  // nullptr when absent
  std::string path_;
};

}  // namespace trireme
