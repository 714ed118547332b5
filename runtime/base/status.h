// Errors as the whole program passes them: absl::Status, with the two extra facts that every wire
// dialect shows.
//
// A request error names the field that caused it (`param`, as the client spelt it) and a
// machine-readable `code` (for example "context_length_exceeded"). Both travel as payloads of the
// status, so that one absl::Status becomes the same answer through HTTP, gRPC and the command line.
// Messages never hold prompt text, paths, addresses or keys.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trireme {

// INVALID_ARGUMENT that names the offending request field.
absl::Status InvalidParam(std::string_view param, std::string_view message,
                          std::string_view code = "");

// Returns `status` with the request field or the machine-readable code attached. No-op on OK.
absl::Status WithParam(absl::Status status, std::string_view param);
absl::Status WithCode(absl::Status status, std::string_view code);

// Prepends "context: " to the message; keeps code and payloads. No-op on OK.
absl::Status Annotate(const absl::Status& status, std::string_view context);

// Annotate with the file that a load error is about, unless the message names it already.
absl::Status WithFile(const absl::Status& status, std::string_view path);

// Empty when absent.
std::string ErrorParam(const absl::Status& status);
std::string ErrorCode(const absl::Status& status);

#define TRIREME_CONCAT_INNER_(a, b) a##b
#define TRIREME_CONCAT_(a, b) TRIREME_CONCAT_INNER_(a, b)

#define TRIREME_RETURN_IF_ERROR(expr)                                 \
  do {                                                                \
    if (absl::Status status_ = (expr); !status_.ok()) return status_; \
  } while (false)

// TRIREME_ASSIGN_OR_RETURN(auto x, F()): unwraps a StatusOr or returns its error from the enclosing
// function.
#define TRIREME_ASSIGN_OR_RETURN(lhs, expr) \
  TRIREME_ASSIGN_OR_RETURN_IMPL_(TRIREME_CONCAT_(statusor_, __LINE__), lhs, expr)
#define TRIREME_ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                                   \
  if (!tmp.ok()) return std::move(tmp).status();       \
  lhs = std::move(tmp).value()

}  // namespace trireme
