#include "server/grpc/generate_call.h"

#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status.h"

namespace trireme::rpc {

GenerateCall::GenerateCall(Node* node, WorkerPool* pump, grpc::CallbackServerContext* context,
                           std::string request_id)
    : node_(node),
      pump_(pump),
      context_(context),
      request_id_(std::move(request_id)),
      handle_(std::make_shared<Handle>(this)) {
  context_->AddInitialMetadata("x-request-id", request_id_);
}

void GenerateCall::Begin(TextRequest request) {
  auto shared = std::make_shared<TextRequest>(std::move(request));
  const bool queued = node_->workers->TrySubmit([handle = handle_, node = node_, shared] {
    auto prepared = Prepare(*node, *shared);
    absl::MutexLock lock(&handle->mu_);
    if (handle->call_ != nullptr) handle->call_->Prepared(*shared, std::move(prepared));
  });
  if (!queued)
    Fail(WithCode(absl::ResourceExhaustedError("too many requests are being prepared"),
                  "overloaded"));
}

void GenerateCall::Fail(const absl::Status& status) {
  absl::MutexLock lock(&mu_);
  Close(status);
}

void GenerateCall::Prepared(const TextRequest& request,
                            absl::StatusOr<std::vector<GenerateRequest>> prepared) {
  absl::MutexLock lock(&mu_);
  if (finished_) return;  // cancelled meanwhile
  if (!prepared.ok()) return Close(prepared.status());
  auto generation = Generation::Start(*node_, request, *std::move(prepared));
  if (!generation.ok()) return Close(generation.status());
  generation_ = *std::move(generation);
  Pump();
}

// Writes the next delta, waits for one, or finishes.
void GenerateCall::Pump() {
  if (finished_ || writing_ || generation_ == nullptr) return;
  if (pending_.empty()) {
    auto deltas = generation_->TryNext();
    if (!deltas.ok()) return Close(deltas.status());
    for (ChoiceDelta& delta : *deltas) pending_.push_back(std::move(delta));
  }
  if (pending_.empty()) {
    if (generation_->done()) return Close(absl::OkStatus());
    return Wait();
  }
  response_.Clear();
  FillDelta(pending_.front(), request_id_, &response_);
  pending_.pop_front();
  if (pending_.empty() && generation_->done()) {
    const Usage usage = generation_->usage();
    response_.mutable_usage()->set_prompt_tokens(usage.prompt_tokens);
    response_.mutable_usage()->set_completion_tokens(usage.completion_tokens);
    response_.mutable_usage()->set_cached_tokens(usage.cached_tokens);
  }
  writing_ = true;
  StartWrite(&response_);
}

void GenerateCall::Wait() {
  generation_->NotifyWhenReady([handle = handle_, pump = pump_] {
    TRIREME_CHECK(pump->TrySubmit([handle] { handle->Pump(); }));
  });
}

void GenerateCall::Close(const absl::Status& status) {
  if (finished_) return;
  finished_ = true;
  generation_.reset();  // cancels what still runs
  if (const std::string param = ErrorParam(status); !param.empty()) {
    context_->AddTrailingMetadata("trireme-param", param);
  }
  if (const std::string code = ErrorCode(status); !code.empty()) {
    context_->AddTrailingMetadata("trireme-code", code);
  }
  Finish(ToGrpcStatus(status));
}

void GenerateCall::OnWriteDone(bool ok) {
  absl::MutexLock lock(&mu_);
  writing_ = false;
  if (!ok) return Close(absl::CancelledError("the client went away"));
  Pump();
}

void GenerateCall::OnCancel() {
  absl::MutexLock lock(&mu_);
  // gRPC cancels a call both when its client does and when its deadline has passed.
  const bool expired = context_->deadline() <= std::chrono::system_clock::now();
  Close(expired ? absl::DeadlineExceededError("the deadline has passed")
                : absl::CancelledError("cancelled"));
}

void GenerateCall::OnDone() {
  {
    absl::MutexLock lock(&handle_->mu_);
    handle_->call_ = nullptr;
  }
  delete this;
}

void GenerateCall::Handle::Pump() {
  absl::MutexLock lock(&mu_);
  if (call_ == nullptr) return;
  absl::MutexLock call_lock(&call_->mu_);
  call_->Pump();
}

bool GenerateCall::Handle::Cancel() {
  absl::MutexLock lock(&mu_);
  if (call_ == nullptr) return false;
  absl::MutexLock call_lock(&call_->mu_);
  const bool running = !call_->finished_;
  call_->Close(absl::CancelledError("aborted"));
  return running;
}

}  // namespace trireme::rpc
