#include "server/dialects/openai/errors.h"

#include <utility>

#include "runtime/base/json_writer.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/text/utf8.h"

namespace trireme::openai {
namespace {

constexpr char kInvalidRequest[] = "invalid_request_error";
constexpr char kServerError[] = "server_error";

struct Mapping {
  int http_status;
  const char* type;
  const char* code;  // when the status carries none
};

Mapping MapCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
      return {400, kInvalidRequest, ""};
    case absl::StatusCode::kUnauthenticated:
      return {401, kInvalidRequest, "invalid_api_key"};
    case absl::StatusCode::kPermissionDenied:
      return {403, kInvalidRequest, ""};
    case absl::StatusCode::kNotFound:
      return {404, kInvalidRequest, "not_found"};
    case absl::StatusCode::kResourceExhausted:
      return {429, "rate_limit_error", "overloaded"};
    case absl::StatusCode::kCancelled:
      return {499, kInvalidRequest, "cancelled"};  // not to be tried again: somebody meant it
    case absl::StatusCode::kUnavailable:
      return {503, kServerError, "unavailable"};
    case absl::StatusCode::kDeadlineExceeded:
      return {504, kServerError, "deadline_exceeded"};
    case absl::StatusCode::kUnimplemented:
      return {501, kInvalidRequest, "unsupported"};
    default:
      return {500, kServerError, "internal_error"};
  }
}

void AppendOrNull(JsonWriter& json, std::string_view key, std::string_view value) {
  json.Key(key);
  if (value.empty()) {
    json.Null();
  } else {
    json.String(value);
  }
}

}  // namespace

ApiError FromStatus(const absl::Status& status) {
  const Mapping mapping = MapCode(status.code());
  ApiError error{.http_status = mapping.http_status,
                 .type = mapping.type,
                 .message = std::string(status.message()),
                 .param = ErrorParam(status),
                 .code = ErrorCode(status)};
  if (error.code.empty()) error.code = mapping.code;
  if (mapping.http_status == 500) {
    error.message = "The server had an error while processing your request.";
  }
  return error;
}

ApiError HttpError(int http_status, std::string_view message, std::string_view code) {
  return {.http_status = http_status,
          .type = kInvalidRequest,
          .message = std::string(message),
          .code = std::string(code)};
}

bool IsRetryable(const ApiError& error) {
  return error.http_status == 429 || error.http_status == 503;
}

std::string ErrorBody(const ApiError& error) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("error").BeginObject();
  json.Key("message").String(LossyUtf8(error.message));
  json.Key("type").String(error.type);
  AppendOrNull(json, "param", LossyUtf8(error.param));
  AppendOrNull(json, "code", error.code);
  json.EndObject().EndObject();
  return out;
}

}  // namespace trireme::openai
