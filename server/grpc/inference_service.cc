#include "server/grpc/inference_service.h"

#include <limits>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/base/version.h"

namespace trireme::rpc {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;

absl::Status CheckRequestId(std::string_view id) {
  if (id.size() > kMaxRequestIdBytes)
    return InvalidParam("request_id", "request_id is longer than 128 bytes");
  for (const char c : id) {
    if (c <= ' ' || c > '~') return InvalidParam("request_id", "request_id must be visible ASCII");
  }
  return absl::OkStatus();
}

class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  // Deletes itself after gRPC's OnDone.
  UnaryCall(const ServiceContext* context, const char* method, grpc::CallbackServerContext* call)
      : call_(call), record_(context, method) {}

  void End(const absl::Status& status) { Finish(record_.End(status, call_)); }
  void OnDone() override {
    record_.Count();
    delete this;
  }

 private:
  grpc::CallbackServerContext* const call_;
  CallRecord record_;
};

}  // namespace

InferenceService::InferenceService(const ServiceContext* context)
    : context_(context),
      node_(context->node),
      started_(node_->clock->Now()),
      pump_(1, std::numeric_limits<size_t>::max()) {}

template <typename Work>
grpc::ServerUnaryReactor* InferenceService::Unary(const char* method,
                                                  grpc::CallbackServerContext* context, Work work) {
  auto* call = new UnaryCall(context_, method, context);
  if (auto tenant = Authenticate(*context_->keys, *context); !tenant.ok()) {
    call->End(tenant.status());
  } else if (!node_->workers->TrySubmit([call, work = std::move(work)] { call->End(work()); })) {
    call->End(
        WithCode(absl::ResourceExhaustedError("too many requests are waiting"), "overloaded"));
  }
  return call;
}

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  std::string request_id = request->request_id();
  absl::Status id_status = CheckRequestId(request_id);
  if (request_id.empty() || !id_status.ok()) {
    request_id = StrCat("grpc-", next_id_.fetch_add(1));
  }
  auto* call = new GenerateCall(context_, &pump_, context, request_id);
  auto tenant = Authenticate(*context_->keys, *context);
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
    TRIREME_ASSIGN_OR_RETURN(auto prepared, Prepare(*node_, text));
    ids = std::move(prepared.front().prompt);
  } else if (request.has_text()) {
    ids = node_->tokenizer->Encode(request.text(), Tokenizer::SpecialTokens::kParse,
                                   !request.no_special_tokens());
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
  return Unary("Tokenize", context,
               [this, request, response] { return DoTokenize(*request, response); });
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  return Unary("Detokenize", context, [this, request, response]() -> absl::Status {
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
  });
}

grpc::ServerUnaryReactor* InferenceService::Abort(grpc::CallbackServerContext* context,
                                                  const v1::AbortRequest* request,
                                                  v1::AbortResponse* response) {
  auto tenant = Authenticate(*context_->keys, *context);
  response->set_found(tenant.ok() && node_->requests->Cancel(*tenant, request->request_id()));
  auto* call = new UnaryCall(context_, "Abort", context);
  call->End(tenant.status());
  return call;
}

grpc::ServerUnaryReactor* InferenceService::GetModelInfo(grpc::CallbackServerContext* context,
                                                         const v1::GetModelInfoRequest*,
                                                         v1::GetModelInfoResponse* response) {
  return Unary("GetModelInfo", context, [this, response] {
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
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* InferenceService::GetServerInfo(grpc::CallbackServerContext* context,
                                                          const v1::GetServerInfoRequest*,
                                                          v1::GetServerInfoResponse* response) {
  return Unary("GetServerInfo", context, [this, response] {
    const SchedulerOptions& scheduler = node_->engine->options().scheduler;
    response->set_version(kVersion);
    response->set_device(node_->info.device);
    response->set_uptime_seconds(absl::ToInt64Seconds(node_->clock->Now() - started_));
    response->set_kv_block_size(scheduler.block_size);
    response->set_kv_blocks_total(scheduler.num_blocks);
    response->set_max_running(scheduler.max_running);
    response->set_max_waiting(scheduler.max_waiting_requests);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* InferenceService::GetLoad(grpc::CallbackServerContext* context,
                                                    const v1::GetLoadRequest*,
                                                    v1::GetLoadResponse* response) {
  return Unary("GetLoad", context, [this, response] {
    const EngineStats stats = node_->engine->stats();
    const SchedulerStats& scheduler = stats.scheduler;
    response->set_running(scheduler.running);
    response->set_waiting(scheduler.waiting);
    response->set_waiting_prompt_tokens(scheduler.waiting_prompt_tokens);
    if (scheduler.blocks_total > 0) {
      response->set_kv_usage(static_cast<double>(scheduler.blocks_held) / scheduler.blocks_total);
    }
    response->set_draining(stats.draining);
    return absl::OkStatus();
  });
}

}  // namespace trireme::rpc
