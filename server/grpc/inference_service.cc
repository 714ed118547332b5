#include "server/grpc/inference_service.h"

#include <atomic>
#include <limits>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/base/version.h"
#include "server/grpc/tsan_order.h"

namespace trireme::rpc {
namespace {

absl::Status CheckRequestId(std::string_view id) {
  if (!id.empty() && !IsSaneRequestId(id)) {
    return InvalidParam("request_id",
                        "request_id must be 1 to 128 visible ASCII characters, and "
                        "neither \".\" nor \"..\"; leave it out to be given one");
  }
  return absl::OkStatus();
}

class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  // Deletes itself after gRPC's OnDone.
  // `response` is what Finish sends; it lives until then.
  UnaryCall(const ServiceContext* context, std::string_view route,
            grpc::CallbackServerContext* call, const google::protobuf::Message* response)
      : record_(context, route, call), response_(response) {}

  absl::StatusOr<std::string> Authenticate() { return record_.Authenticate(); }
  absl::Status Charge(size_t request_bytes) {
    record_.AddReceived(request_bytes);
    return record_.Charge(request_bytes);
  }
  // Once.
  void End(const absl::Status& status) {
    const grpc::Status end = record_.End(status);
    if (end.ok()) record_.AddSent(response_->ByteSizeLong());
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
  const google::protobuf::Message* const response_;
  std::atomic<bool> cancelled_ = false;
};

}  // namespace

InferenceService::InferenceService(const ServiceContext* context)
    : context_(context),
      node_(context->node),
      started_(node_->clock->Now()),
      pump_(1, std::numeric_limits<size_t>::max()) {}

template <typename Work>
grpc::ServerUnaryReactor* InferenceService::OnWorkers(std::string_view route,
                                                      grpc::CallbackServerContext* context,
                                                      size_t request_bytes,
                                                      const google::protobuf::Message* response,
                                                      Work work) {
  auto* call = new UnaryCall(context_, route, context, response);
  if (auto tenant = call->Authenticate(); !tenant.ok()) {
    call->End(tenant.status());
  } else if (absl::Status charged = call->Charge(request_bytes); !charged.ok()) {
    call->End(charged);
  } else if (!node_->workers->TrySubmit(
                 [call, work = std::move(work)] {
                   call->End(call->cancelled() ? absl::CancelledError("cancelled") : work());
                 },
                 LengthOfWork(request_bytes))) {
    call->End(
        WithCode(absl::ResourceExhaustedError("too many requests are waiting"), "overloaded"));
  }
  return call;
}

template <typename Fill>
grpc::ServerUnaryReactor* InferenceService::AtOnce(std::string_view route,
                                                   grpc::CallbackServerContext* context,
                                                   const google::protobuf::Message* response,
                                                   Fill fill) {
  auto* call = new UnaryCall(context_, route, context, response);
  auto tenant = call->Authenticate();
  if (tenant.ok()) fill();
  call->End(tenant.status());
  return call;
}

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  absl::Status id_status = CheckRequestId(request->request_id());
  auto* call =
      new GenerateCall(context_, &pump_, context, id_status.ok() ? request->request_id() : "");
  auto tenant = call->Authenticate();
  if (!tenant.ok()) {
    call->Fail(tenant.status());
  } else if (!id_status.ok()) {
    call->Fail(id_status);
  } else {
    call->Begin(*request, *std::move(tenant));
  }
  return call;
}

absl::Status InferenceService::DoTokenize(const v1::TokenizeRequest& request,
                                          v1::TokenizeResponse* response) const {
  TRIREME_RETURN_IF_ERROR(
      CheckModel(*node_, request.model().empty() ? node_->info.id : request.model()));
  std::vector<TokenId> ids;
  if (request.has_chat()) {
    TextRequest text;
    text.model = node_->info.id;
    TRIREME_ASSIGN_OR_RETURN(text.input, ToChatPrompt(request.chat()));
    auto prepared = Prepare(*node_, text);
    if (!prepared.ok()) return InWireTerms(prepared.status(), v1::GenerateRequest::kChat);
    ids = std::move(prepared->front().prompt);
  } else if (request.has_text()) {
    TRIREME_ASSIGN_OR_RETURN(
        ids, EncodeText(*node_, request.text(), "text", !request.no_special_tokens()));
  } else {
    return InvalidParam("input", "one of text and chat is needed");
  }
  for (const TokenId id : ids) {
    response->add_token_ids(id);
    response->add_tokens(std::string(node_->tokenizer->TokenBytes(id)));
  }
  response->set_max_context_tokens(node_->info.max_context_tokens);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  return OnWorkers("trireme.v1.Inference/Tokenize", context, request->ByteSizeLong(), response,
                   [this, request, response] { return DoTokenize(*request, response); });
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  const auto work = [this, request, response]() -> absl::Status {
    TRIREME_RETURN_IF_ERROR(
        CheckModel(*node_, request->model().empty() ? node_->info.id : request->model()));
    const auto& ids = request->token_ids();
    for (const TokenId id : ids) {
      if (id < 0 || id >= node_->info.vocab_size) {
        return InvalidParam("token_ids", StrCat("token id ", id, " is outside the vocabulary of ",
                                                node_->info.vocab_size));
      }
    }
    response->set_text(node_->tokenizer->Decode({ids.data(), static_cast<size_t>(ids.size())},
                                                !request->keep_special_tokens()));
    return absl::OkStatus();
  };
  return OnWorkers("trireme.v1.Inference/Detokenize", context, request->ByteSizeLong(), response,
                   work);
}

grpc::ServerUnaryReactor* InferenceService::Abort(grpc::CallbackServerContext* context,
                                                  const v1::AbortRequest* request,
                                                  v1::AbortResponse* response) {
  auto* call = new UnaryCall(context_, "trireme.v1.Inference/Abort", context, response);
  auto tenant = call->Authenticate();
  response->set_found(tenant.ok() && node_->requests->Cancel(*tenant, request->request_id()));
  call->End(tenant.status());
  return call;
}

grpc::ServerUnaryReactor* InferenceService::GetModelInfo(grpc::CallbackServerContext* context,
                                                         const v1::GetModelInfoRequest*,
                                                         v1::GetModelInfoResponse* response) {
  return AtOnce("trireme.v1.Inference/GetModelInfo", context, response, [this, response] {
    const ModelInfo& info = node_->info;
    response->set_id(info.id);
    for (const std::string& alias : info.aliases) response->add_aliases(alias);
    response->set_architecture(info.architecture);
    response->set_quantization(info.quantization);
    response->set_max_context_tokens(info.max_context_tokens);
    response->set_vocab_size(info.vocab_size);
    for (const TokenId id : node_->engine->options().limits.eos_ids)
      response->add_eos_token_ids(id);
    response->set_has_chat_template(node_->chat_template != nullptr);
  });
}

grpc::ServerUnaryReactor* InferenceService::GetServerInfo(grpc::CallbackServerContext* context,
                                                          const v1::GetServerInfoRequest*,
                                                          v1::GetServerInfoResponse* response) {
  return AtOnce("trireme.v1.Inference/GetServerInfo", context, response, [this, response] {
    const SchedulerOptions& scheduler = node_->engine->options().scheduler;
    response->set_version(kVersion);
    response->set_device(node_->info.device);
    response->set_uptime_seconds(absl::ToInt64Seconds(node_->clock->Now() - started_));
    response->set_kv_block_size(scheduler.block_size);
    response->set_kv_blocks_total(scheduler.num_blocks);
    response->set_max_running(scheduler.max_running);
    response->set_max_waiting(scheduler.max_waiting_requests);
  });
}

grpc::ServerUnaryReactor* InferenceService::GetLoad(grpc::CallbackServerContext* context,
                                                    const v1::GetLoadRequest*,
                                                    v1::GetLoadResponse* response) {
  return AtOnce("trireme.v1.Inference/GetLoad", context, response, [this, response] {
    const EngineStats stats = node_->engine->stats();
    const SchedulerStats& scheduler = stats.scheduler;
    response->set_running(scheduler.running);
    response->set_waiting(scheduler.waiting);
    response->set_waiting_prompt_tokens(scheduler.waiting_prompt_tokens);
    if (scheduler.blocks_total > 0) {
      response->set_kv_usage(static_cast<double>(scheduler.blocks_held) / scheduler.blocks_total);
    }
    response->set_draining(stats.draining);
  });
}

}  // namespace trireme::rpc
