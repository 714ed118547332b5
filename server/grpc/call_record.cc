#include "server/grpc/call_record.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"
#include "runtime/engine/refusals.h"
#include "server/grpc/convert.h"
#include "server/grpc/tsan_order.h"

namespace trireme::rpc {
namespace {

using Metadata = std::multimap<grpc::string_ref, grpc::string_ref>;

std::vector<std::string_view> All(const Metadata& metadata, const char* name) {
  std::vector<std::string_view> values;
  const auto [begin, end] = metadata.equal_range(name);
  for (auto it = begin; it != end; ++it) values.emplace_back(it->second.data(), it->second.size());
  return values;
}

std::string_view First(const Metadata& metadata, const char* name) {
  const auto found = metadata.lower_bound(name);
  if (found == metadata.end() || found->first != name) return "";
  return {found->second.data(), found->second.size()};
}

// As HTTP/2 counts a header list (RFC 9113, 6.5.2): 32 bytes beside each name and value.
size_t NumBytes(const Metadata& metadata) {
  size_t num_bytes = 0;
  for (const auto& [name, value] : metadata) num_bytes += name.size() + value.size() + 32;
  return num_bytes;
}

}  // namespace

CallRecord::CallRecord(const ServiceContext* context, std::string_view route,
                       grpc::CallbackServerContext* call)
    : context_(context), call_(call) {
  record_.door = FinishedRequest::Door::kGrpc;
  record_.id = RandomId("grpc-");
  record_.route = route;
  record_.method = route.substr(route.find('/') + 1);
  record_.peer = PeerKind(call->peer());
  record_.begin = context->clock->Now();
  const Metadata& metadata = call->client_metadata();
  record_.trace = ParseTraceContext(All(metadata, "traceparent"), All(metadata, "tracestate"))
                      .value_or(TraceContext{});
}

CallRecord::~CallRecord() { context_->request_bytes -= charged_bytes_; }

absl::StatusOr<Tenant> CallRecord::Authenticate() {
  const Metadata& metadata = call_->client_metadata();
  if (const size_t num_bytes = NumBytes(metadata); num_bytes > kMaxMetadataBytes) {
    return absl::ResourceExhaustedError(absl::StrCat("the metadata take ", num_bytes, " bytes, of ",
                                                     kMaxMetadataBytes, " that a call may have"));
  }
  absl::StatusOr<Tenant> tenant = context_->keys->AuthenticateCaller(
      First(metadata, "authorization"), First(metadata, "api-key"));
  record_.key_refused = !tenant.ok();
  if (tenant.ok()) record_.tenant = tenant->id;
  return tenant;
}

absl::Status CallRecord::Charge(size_t request_bytes) {
  charged_bytes_ = 2 * static_cast<int64_t>(request_bytes);
  if (context_->request_bytes.fetch_add(charged_bytes_) + charged_bytes_ <=
      context_->max_request_bytes) {
    return absl::OkStatus();
  }
  return Overloaded("the requests in flight are too large together");
}

void CallRecord::SetGeneration(std::string_view model, const Generation& generation) {
  record_.model = model;
  record_.stream = true;
  record_.work = generation.record();
  record_.finish_reasons = generation.finish_reasons();
}

grpc::Status CallRecord::End(const absl::Status& status) {
  record_.grpc_code = status.code();
  if (const std::string param = ErrorParam(status); !param.empty()) {
    call_->AddTrailingMetadata("trireme-param", param);
  }
  if (std::string code = ErrorCode(status); !code.empty()) {
    call_->AddTrailingMetadata("trireme-code", code);
    record_.error_code = std::move(code);
  }
  return ToGrpcStatus(status);
}

void CallRecord::Report() {
  record_.end = context_->clock->Now();
  context_->telemetry->OnRequest(std::move(record_));
  HandOver(context_);  // to GrpcServer::Shutdown, which waits for every call
}

}  // namespace trireme::rpc
