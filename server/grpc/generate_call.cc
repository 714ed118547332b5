#include "server/grpc/generate_call.h"

#include <utility>

#include "runtime/base/status.h"
#include "runtime/engine/refusals.h"
#include "server/grpc/call_pump.h"
#include "server/grpc/tsan_order.h"
#include "server/grpc/wire.h"

namespace trireme::rpc {
namespace {

using SteadyClock = std::chrono::steady_clock;

absl::Time ToEngineTime(const Clock& clock, std::chrono::system_clock::time_point deadline) {
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
  return clock.Now() + absl::FromChrono(deadline - std::chrono::system_clock::now());
}

gpr_timespec After(SteadyClock::duration delay) {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(delay).count();
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(ns, GPR_TIMESPAN));
}

absl::Status CheckRequestId(std::string_view id) {
  if (id.empty() || IsSaneRequestId(id)) return absl::OkStatus();
  return InvalidParam("request_id",
                      "request_id must be 1 to 128 visible ASCII characters, and "
                      "neither \".\" nor \"..\"; leave it out to be given one");
}

// What the call says of a request beside its message.
struct Caller {
  std::string request_id;
  Tenant tenant;
  absl::Time deadline;
};

absl::StatusOr<std::vector<GenerateRequest>> ConvertAndPrepare(const Node& node,
                                                               const v1::GenerateRequest& wire,
                                                               const Caller& caller,
                                                               TextRequest* request) {
  TRIREME_ASSIGN_OR_RETURN(*request, ToTextRequest(wire, node));
  request->base.external_id = caller.request_id;
  request->base.tenant = caller.tenant.id;
  request->base.deadline = caller.deadline;
  request->may_raise_priority = caller.tenant.may_raise_priority;
  auto prepared = Prepare(node, *request);
  if (!prepared.ok()) return InWireTerms(prepared.status(), wire.input_case());
  return prepared;
}

}  // namespace

GenerateCall::GenerateCall(const ServiceContext* context, CallPump* pump,
                           grpc::CallbackServerContext* call)
    : context_(context),
      pump_(pump),
      call_(call),
      handle_(std::make_shared<Handle>(this, pump)),
      record_(context, "trireme.v1.Inference/Generate", call) {
  HandOver(this);
}

// Who calls, and what it asks for. The request has its id afterwards, whatever is wrong with it.
absl::StatusOr<Tenant> GenerateCall::Receive(const grpc::ByteBuffer& bytes,
                                             v1::GenerateRequest* wire) {
  std::lock_guard lock(mu_);
  record_.AddReceived(bytes.Length());
  absl::StatusOr<Tenant> tenant = record_.Authenticate();
  absl::Status status = tenant.status();
  if (status.ok() && context_->loaded.load() == nullptr) status = Loading();
  if (status.ok()) status = record_.Charge(bytes.Length());
  if (status.ok()) status = ParseMessage(bytes, wire);
  if (status.ok()) status = CheckRequestId(wire->request_id());
  if (status.ok() && !wire->request_id().empty()) record_.set_id(wire->request_id());
  request_id_ = record_.id();
  call_->AddInitialMetadata("x-request-id", request_id_);
  if (!status.ok()) return status;
  return tenant;
}

void GenerateCall::Begin(const grpc::ByteBuffer& bytes) {
  v1::GenerateRequest wire;
  absl::StatusOr<Tenant> tenant = Receive(bytes, &wire);
  if (!tenant.ok()) return Fail(tenant.status());
  Caller caller{.request_id = request_id_,
                .tenant = *std::move(tenant),
                .deadline = ToEngineTime(*context_->clock, call_->deadline())};
  {
    std::lock_guard lock(mu_);
    ticket_ = context_->node().requests->Enter(
        {.id = request_id_,
         .tenant = caller.tenant.id,
         .door = RequestInfo::Door::kGrpc,
         .arrival = context_->node().clock->Now()},
        [handle = handle_, pump = pump_] { pump->Post([handle] { handle->Cancel(); }); });
  }
  const bool queued = context_->node().workers->TrySubmit(
      [handle = handle_, &node = context_->node(), wire = std::move(wire),
       caller = std::move(caller)] {
        if (!handle->running()) return;  // the client went away in the queue
        TextRequest request;
        auto prepared = ConvertAndPrepare(node, wire, caller, &request);
        std::lock_guard lock(handle->mu_);
        if (handle->call_ != nullptr) handle->call_->Prepared(request, std::move(prepared));
      },
      LengthOfWork(bytes.Length()));
  if (!queued) Fail(WorkersBusy());
}

void GenerateCall::Fail(const absl::Status& status) {
  std::lock_guard lock(mu_);
  Close(status);
}

void GenerateCall::Prepared(const TextRequest& request,
                            absl::StatusOr<std::vector<GenerateRequest>> prepared) {
  std::lock_guard lock(mu_);
  if (finished_) return;  // cancelled meanwhile
  if (!prepared.ok()) return Close(prepared.status());
  auto generation = Generation::Start(context_->node(), request, *std::move(prepared));
  if (!generation.ok()) return Close(generation.status());
  generation_ = *std::move(generation);
  model_ = request.model;
  ticket_.SetSubmitted(request.model, /*stream=*/true, generation_->usage().prompt_tokens);
  WatchForNews();
}

// Writes the next delta, or finishes. When there is neither, news will come.
void GenerateCall::Pump() {
  if (finished_ || writing_ || generation_ == nullptr) return;
  if (pending_.empty() && std::exchange(has_news_, false)) {
    auto deltas = generation_->TryNext();
    if (!deltas.ok()) return Close(deltas.status());
    pending_ = *deltas;
    ticket_.SetGenerated(generation_->usage().completion_tokens);
    if (!generation_->done()) WatchForNews();
  }
  if (!pending_.empty()) {
    Write(pending_.front());
    pending_.remove_prefix(1);
  } else if (generation_->done()) {
    Close(absl::OkStatus());
  }
}

void GenerateCall::Write(const ChoiceDelta& delta) {
  FillDelta(delta, request_id_, &response_);
  if (pending_.size() == 1 && generation_->done()) {
    const Usage usage = generation_->usage();
    response_.mutable_usage()->set_prompt_tokens(usage.prompt_tokens);
    response_.mutable_usage()->set_completion_tokens(usage.completion_tokens);
    response_.mutable_usage()->set_cached_tokens(usage.cached_tokens);
  }
  SerializeMessage(response_, &outgoing_);
  record_.AddSent(outgoing_.Length());
  writing_ = true;
  ExpectProgress();
  StartWrite(&outgoing_);
}

// While a write is under way, too: its end has nothing to look for then, mostly.
void GenerateCall::WatchForNews() {
  generation_->NotifyWhenReady([handle = handle_] { handle->pump_->PushNews(handle); });
}

void GenerateCall::Close(const absl::Status& status) {
  if (finished_) return;
  finished_ = true;
  ticket_.Leave();
  if (generation_ != nullptr) record_.SetGeneration(model_, *generation_);
  generation_.reset();  // cancels what still runs
  ExpectProgress();
  Finish(record_.End(status));
}

void GenerateCall::ExpectProgress() {
  progress_ = SteadyClock::now();
  // One alarm per timeout and not per write: it looks at what has happened since.
  if (!alarm_set_) SetAlarm(absl::ToChronoNanoseconds(context_->write_timeout));
}

void GenerateCall::SetAlarm(SteadyClock::duration delay) {
  alarm_set_ = true;
  alarm_.emplace();  // gRPC's cannot be set twice
  alarm_->Set(After(delay), [handle = handle_](bool) { handle->CheckProgress(); });
}

// A client that does not read first loses its generation. The status still waits behind what was
// written before, for a client that reads on; one that never does loses the call, too.
void GenerateCall::CheckProgress() {
  alarm_set_ = false;
  if (!writing_ && !finished_) return;
  const SteadyClock::duration patience = absl::ToChronoNanoseconds(context_->write_timeout);
  const SteadyClock::duration waited = SteadyClock::now() - progress_;
  if (waited < patience) return SetAlarm(patience - waited);
  if (finished_) return call_->TryCancel();
  Close(WithCode(absl::ResourceExhaustedError("the client does not read what was generated"),
                 "slow_reader"));
}

void GenerateCall::OnWriteDone(bool ok) {
  TakeOver(this);
  std::lock_guard lock(mu_);
  writing_ = false;
  if (!ok) return Close(absl::CancelledError("the client went away"));
  Pump();
}

void GenerateCall::OnCancel() {
  TakeOver(this);
  std::lock_guard lock(mu_);
  // gRPC cancels a call both when its client does and when its deadline has passed.
  const bool expired = call_->deadline() <= std::chrono::system_clock::now();
  Close(expired ? absl::DeadlineExceededError("the deadline has passed")
                : absl::CancelledError("cancelled"));
}

void GenerateCall::OnDone() {
  TakeOver(this);
  {
    std::lock_guard lock(handle_->mu_);
    handle_->call_ = nullptr;
  }
  {
    std::lock_guard lock(mu_);
    record_.Report();
  }
  delete this;
}

bool GenerateCall::Handle::running() {
  std::lock_guard lock(mu_);
  if (call_ == nullptr) return false;
  std::lock_guard call_lock(call_->mu_);
  return !call_->finished_;
}

void GenerateCall::Handle::OnNews() {
  std::lock_guard lock(mu_);
  if (call_ == nullptr) return;
  std::lock_guard call_lock(call_->mu_);
  call_->has_news_ = true;
  call_->Pump();
}

void GenerateCall::Handle::Cancel() {
  std::lock_guard lock(mu_);
  if (call_ == nullptr) return;
  std::lock_guard call_lock(call_->mu_);
  call_->Close(RequestCancelled());
}

void GenerateCall::Handle::CheckProgress() {
  std::lock_guard lock(mu_);
  if (call_ == nullptr) return;
  std::lock_guard call_lock(call_->mu_);
  call_->CheckProgress();
}

}  // namespace trireme::rpc
