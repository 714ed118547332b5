#include "server/grpc/inference_service.h"

#include <atomic>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/version.h"
#include "runtime/engine/refusals.h"
#include "server/grpc/tsan_order.h"
#include "server/grpc/wire.h"

namespace trireme::rpc {
namespace {

class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  // Deletes itself after gRPC's OnDone.
  UnaryCall(const ServiceContext* context, std::string_view route,
            grpc::CallbackServerContext* call)
      : record_(context, route, call) {}

  CallRecord& record() { return record_; }
  // Once. `num_bytes`: of the response, which is sent if `status` is OK.
  void End(const absl::Status& status, size_t num_bytes = 0) {
    const grpc::Status end = record_.End(status);
    if (end.ok()) record_.AddSent(num_bytes);
    HandOver(this);
    Finish(end);
  }
  // The client has gone, or its deadline has passed: no work is done for it any more.
  bool cancelled() const { return cancelled_.load(); }

  void OnCancel() override { cancelled_.store(true); }
  void OnDone() override {
    TakeOver(this);
    record_.Report();
    delete this;
  }

 private:
  CallRecord record_;
  std::atomic<bool> cancelled_ = false;
};

}  // namespace

InferenceService::InferenceService(const ServiceContext* context)
    : context_(context), started_(context->clock->Now()) {}

template <typename Request, typename Response>
grpc::ServerUnaryReactor* InferenceService::Unary(
    std::string_view route, Where where, Call* context, const Bytes* request, Bytes* response,
    absl::Status (InferenceService::*work)(const Tenant&, const Request&, Response*) const) {
  auto* call = new UnaryCall(context_, route, context);
  call->record().AddReceived(request->Length());
  absl::StatusOr<Tenant> tenant = call->record().Authenticate();
  absl::Status refusal = tenant.status();
  if (refusal.ok() && context_->loaded.load() == nullptr) refusal = Loading();
  if (refusal.ok() && where == Where::kWorkers) refusal = call->record().Charge(request->Length());
  if (!refusal.ok()) {
    call->End(refusal);
    return call;
  }
  // gRPC keeps both buffers as long as the call.
  const auto answer = [this, call, request, response, work, caller = *std::move(tenant)] {
    if (call->cancelled()) return call->End(absl::CancelledError("cancelled"));
    Request message;
    Response out;
    absl::Status status = ParseMessage(*request, &message);
    if (status.ok()) status = (this->*work)(caller, message, &out);
    if (status.ok()) SerializeMessage(out, response);
    call->End(status, response->Length());
  };
  if (where == Where::kAtOnce) {
    answer();
  } else if (!node().workers->TrySubmit(answer, LengthOfWork(request->Length()))) {
    call->End(WorkersBusy());
  }
  return call;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Generate(Call* context,
                                                                       const Bytes* request) {
  auto* call = new GenerateCall(context_, &pump_, context);
  call->Begin(*request);
  return call;
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(Call* call, const Bytes* request,
                                                     Bytes* response) {
  return Unary("trireme.v1.Inference/Tokenize", Where::kWorkers, call, request, response,
               &InferenceService::DoTokenize);
}

absl::Status InferenceService::DoTokenize(const Tenant&, const v1::TokenizeRequest& request,
                                          v1::TokenizeResponse* response) const {
  TRIREME_RETURN_IF_ERROR(
      CheckModel(node(), request.model().empty() ? node().info.id : request.model()));
  std::vector<TokenId> ids;
  if (request.has_chat()) {
    TextRequest text;
    text.model = node().info.id;
    TRIREME_ASSIGN_OR_RETURN(text.input, ToChatPrompt(request.chat()));
    auto prepared = Prepare(node(), text);
    if (!prepared.ok()) return InWireTerms(prepared.status(), v1::GenerateRequest::kChat);
    ids = std::move(prepared->front().prompt);
  } else if (request.has_text()) {
    TRIREME_ASSIGN_OR_RETURN(
        ids, EncodeText(node(), request.text(), "text", !request.no_special_tokens()));
  } else {
    return InvalidParam("input", "one of text and chat is needed");
  }
  for (const TokenId id : ids) {
    response->add_token_ids(id);
    response->add_tokens(std::string(node().tokenizer->TokenBytes(id)));
  }
  response->set_max_context_tokens(node().info.max_context_tokens);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(Call* call, const Bytes* request,
                                                       Bytes* response) {
  return Unary("trireme.v1.Inference/Detokenize", Where::kWorkers, call, request, response,
               &InferenceService::DoDetokenize);
}

absl::Status InferenceService::DoDetokenize(const Tenant&, const v1::DetokenizeRequest& request,
                                            v1::DetokenizeResponse* response) const {
  TRIREME_RETURN_IF_ERROR(
      CheckModel(node(), request.model().empty() ? node().info.id : request.model()));
  const auto& ids = request.token_ids();
  TRIREME_ASSIGN_OR_RETURN(
      *response->mutable_text(),
      DecodeTokens(node(), {ids.data(), static_cast<size_t>(ids.size())}, "token_ids",
                   /*skip_special=*/!request.keep_special_tokens()));
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* InferenceService::Abort(Call* call, const Bytes* request,
                                                  Bytes* response) {
  return Unary("trireme.v1.Inference/Abort", Where::kAtOnce, call, request, response,
               &InferenceService::DoAbort);
}

absl::Status InferenceService::DoAbort(const Tenant& caller, const v1::AbortRequest& request,
                                       v1::AbortResponse* response) const {
  response->set_found(node().requests->Cancel(caller.id, request.request_id()));
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* InferenceService::GetModelInfo(Call* call, const Bytes* request,
                                                         Bytes* response) {
  return Unary("trireme.v1.Inference/GetModelInfo", Where::kAtOnce, call, request, response,
               &InferenceService::DoGetModelInfo);
}

absl::Status InferenceService::DoGetModelInfo(const Tenant&, const v1::GetModelInfoRequest&,
                                              v1::GetModelInfoResponse* response) const {
  const ModelInfo& info = node().info;
  response->set_id(info.id);
  for (const std::string& alias : info.aliases) response->add_aliases(alias);
  response->set_architecture(info.architecture);
  response->set_quantization(info.quantization);
  response->set_max_context_tokens(info.max_context_tokens);
  response->set_vocab_size(info.vocab_size);
  for (const TokenId id : node().engine->options().limits.eos_ids) response->add_eos_token_ids(id);
  response->set_has_chat_template(node().chat_template != nullptr);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* InferenceService::GetServerInfo(Call* call, const Bytes* request,
                                                          Bytes* response) {
  return Unary("trireme.v1.Inference/GetServerInfo", Where::kAtOnce, call, request, response,
               &InferenceService::DoGetServerInfo);
}

absl::Status InferenceService::DoGetServerInfo(const Tenant&, const v1::GetServerInfoRequest&,
                                               v1::GetServerInfoResponse* response) const {
  const SchedulerOptions& scheduler = node().engine->options().scheduler;
  response->set_version(kVersion);
  response->set_device(node().info.device);
  response->set_uptime_seconds(absl::ToInt64Seconds(context_->clock->Now() - started_));
  response->set_kv_block_size(scheduler.block_size);
  response->set_kv_blocks_total(scheduler.num_blocks);
  response->set_max_running(scheduler.max_running);
  response->set_max_waiting(scheduler.max_waiting_requests);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* InferenceService::GetLoad(Call* call, const Bytes* request,
                                                    Bytes* response) {
  return Unary("trireme.v1.Inference/GetLoad", Where::kAtOnce, call, request, response,
               &InferenceService::DoGetLoad);
}

absl::Status InferenceService::DoGetLoad(const Tenant&, const v1::GetLoadRequest&,
                                         v1::GetLoadResponse* response) const {
  const EngineStats stats = node().engine->stats();
  const SchedulerStats& scheduler = stats.scheduler;
  response->set_running(scheduler.running);
  response->set_waiting(scheduler.waiting);
  response->set_waiting_prompt_tokens(scheduler.waiting_prompt_tokens);
  if (scheduler.blocks_total > 0) {
    response->set_kv_usage(static_cast<double>(scheduler.blocks_held) / scheduler.blocks_total);
  }
  response->set_draining(stats.draining);
  return absl::OkStatus();
}

}  // namespace trireme::rpc
