// Typed reading of a JSON body's fields, with errors in OpenAI's words.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/node/client_input.h"

namespace trireme::openai {

// ParseJsonObject (server/node/client_input.h), its errors in OpenAI's words.
absl::StatusOr<boost::json::object> ParseJsonBody(std::string_view body);

// Reads the members of one object. A member that is null counts as absent, as OpenAI has it. The
// first error sticks and later reads do nothing, so that callers read everything in a row and look
// at Finish() once. Absent members leave
// `*out` as it is.
class FieldReader {
 public:
  // `path` precedes the names in errors, for example "messages[0]."; empty for the request itself.
  // `object` must outlive the reader.
  explicit FieldReader(const boost::json::object& object, std::string path = "");

  // The member unless absent or null; counts as read. For members with a shape of their own.
  const boost::json::value* Find(std::string_view name);
  bool Has(std::string_view name) const;  // present and not null; does not count as read

  // All true when the member was there and of the type.
  bool Bool(std::string_view name, bool* out);
  bool Integer(std::string_view name, int64_t* out);
  bool Integer(std::string_view name, int* out);
  bool Number(std::string_view name, float* out);  // finite
  bool String(std::string_view name, std::string* out);
  const boost::json::array* Array(std::string_view name);  // null when absent
  const boost::json::object* Object(std::string_view name);

  // A member that is not supported: an error unless it is absent or equal to `harmless`.
  void Refuse(std::string_view name, std::string_view why);
  void RefuseUnless(std::string_view name, const boost::json::value& harmless,
                    std::string_view why);

  void Require(std::string_view name);  // an error when absent
  void Fail(absl::Status error);        // the caller's own check
  // Wrong type of `value` at `name` (may carry an index: "stop[1]").
  void FailType(std::string_view name, std::string_view expected, const boost::json::value& value);

  bool ok() const { return error_.ok(); }
  std::string Path(std::string_view name) const { return path_ + std::string(name); }
  // The first error; else an error for the first member that nobody read; else OK.
  absl::Status Finish();

 private:
  const boost::json::object& object_;
  const std::string path_;
  std::vector<std::string_view> read_;
  absl::Status error_;
};

}  // namespace trireme::openai
