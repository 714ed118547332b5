// Every error of the OpenAI door, in one place: absl::Status to HTTP status and the error body that
// SDKs parse.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace trireme::openai {

struct ApiError {
  int http_status = 500;
  std::string type, message;
  std::string param, code;  // empty: null on the wire
};

//   INVALID_ARGUMENT,
//   OUT_OF_RANGE,
//   FAILED_PRECONDITION  400 invalid_request_error
//   UNAUTHENTICATED      401 invalid_request_error, code invalid_api_key
//   PERMISSION_DENIED    403 invalid_request_error, code priority_not_allowed
//   NOT_FOUND            404 invalid_request_error, code model_not_found ...
//   RESOURCE_EXHAUSTED   429 rate_limit_error, code overloaded, slow_reader; retry
//   CANCELLED            499 invalid_request_error, code cancelled
//   anything else        500 server_error; what happened stays in our log
//   UNIMPLEMENTED        501 invalid_request_error
//   UNAVAILABLE          503 server_error, code draining, shutting_down, device_lost; retry
//   DEADLINE_EXCEEDED    504 server_error: our own limit passed, not the client's
ApiError FromStatus(const absl::Status& status);

// An error of the HTTP layer itself (404, 405, 408, 413 ...): invalid_request_error.
ApiError HttpError(int http_status, std::string_view message, std::string_view code = "");

// Whether the same request may succeed a moment later: Retry-After and x-should-retry.
bool IsRetryable(const ApiError& error);

// {"error":{"message":...,"type":...,"param":...,"code":...}}: always all four keys.
std::string ErrorBody(const ApiError& error);

}  // namespace trireme::openai
