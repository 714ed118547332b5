#include "runtime/base/status.h"

#include "absl/strings/cord.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr char kParamUrl[] = "trireme/param";
constexpr char kCodeUrl[] = "trireme/code";

absl::Status WithPayload(absl::Status status, const char* url, std::string_view value) {
  if (!status.ok() && !value.empty()) status.SetPayload(url, absl::Cord(ToAbsl(value)));
  return status;
}

std::string Payload(const absl::Status& status, const char* url) {
  auto payload = status.GetPayload(url);
  return payload ? std::string(*payload) : std::string();
}

}  // namespace

absl::Status InvalidParam(std::string_view param, std::string_view message, std::string_view code) {
  return WithCode(WithParam(absl::InvalidArgumentError(ToAbsl(message)), param), code);
}

absl::Status WithParam(absl::Status status, std::string_view param) {
  return WithPayload(std::move(status), kParamUrl, param);
}

absl::Status WithCode(absl::Status status, std::string_view code) {
  return WithPayload(std::move(status), kCodeUrl, code);
}

absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  absl::Status annotated(status.code(), StrCat(context, ": ", status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    annotated.SetPayload(url, payload);
  });
  return annotated;
}

absl::Status WithFile(const absl::Status& status, std::string_view path) {
  const bool named = FromAbsl(status.message()).find(path) != std::string_view::npos;
  return named ? status : Annotate(status, path);
}

std::string ErrorParam(const absl::Status& status) { return Payload(status, kParamUrl); }
std::string ErrorCode(const absl::Status& status) { return Payload(status, kCodeUrl); }

}  // namespace trireme
