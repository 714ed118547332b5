#include "server/grpc/call_record.h"

#include <string_view>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/grpc/convert.h"

namespace trireme::rpc {

absl::StatusOr<std::string> Authenticate(const KeyStore& keys,
                                         const grpc::CallbackServerContext& context) {
  std::string_view presented;
  const auto& metadata = context.client_metadata();
  if (const auto found = metadata.find("authorization"); found != metadata.end()) {
    presented = {found->second.data(), found->second.size()};
    if (presented.starts_with("Bearer ") || presented.starts_with("bearer "))
      presented.remove_prefix(7);
  }
  const auto tenant = keys.Authenticate(presented);
  if (!tenant)
    return WithCode(absl::UnauthenticatedError("a valid API key is needed"), "invalid_api_key");
  return tenant->id;
}

CallRecord::CallRecord(const ServiceContext* context, const char* method)
    : context_(context), method_(method), begin_(context->node->clock->Now()) {}

CallRecord::~CallRecord() { context_->request_bytes -= charged_bytes_; }

absl::Status CallRecord::Charge(size_t request_bytes) {
  charged_bytes_ = static_cast<int64_t>(request_bytes);
  if (context_->request_bytes.fetch_add(charged_bytes_) + charged_bytes_ <=
      context_->max_request_bytes) {
    return absl::OkStatus();
  }
  return WithCode(absl::ResourceExhaustedError("the requests in flight are too large together"),
                  "overloaded");
}

grpc::Status CallRecord::End(const absl::Status& status, grpc::CallbackServerContext* call) {
  code_ = status.code();
  if (const std::string param = ErrorParam(status); !param.empty()) {
    call->AddTrailingMetadata("trireme-param", param);
  }
  if (const std::string code = ErrorCode(status); !code.empty()) {
    call->AddTrailingMetadata("trireme-code", code);
  }
  return ToGrpcStatus(status);
}

void CallRecord::Count() const {
  if (context_->metrics == nullptr) return;
  context_->metrics->CountGrpc(method_, absl::StatusCodeToString(code_),
                               context_->node->clock->Now() - begin_);
}

}  // namespace trireme::rpc
