#include "runtime/engine/engine_loop.h"

#include <algorithm>
#include <random>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/engine/refusals.h"
#include "runtime/engine/stream_state.h"

namespace trireme::internal {
namespace {

// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014): distinct inputs,
// unrelated outputs.
uint64_t SplitMix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t SystemSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

std::unique_ptr<Sequence> MakeSequence(RequestId id, const GenerateRequest& request,
                                       const RequestLimits& limits, absl::Time now) {
  auto sequence = std::make_unique<Sequence>();
  sequence->id = id;
  sequence->tenant = request.tenant;
  sequence->priority = request.priority;
  sequence->deadline = request.deadline;
  sequence->arrival = now;
  sequence->num_prompt_tokens = static_cast<int>(request.prompt.size());
  sequence->tokens = request.prompt;
  sequence->want_prompt_logits = request.sampling.prompt_logprobs;
  sequence->limits.max_tokens =
      request.max_tokens.value_or(limits.max_context_tokens - sequence->num_prompt_tokens);
  sequence->limits.min_tokens = request.min_tokens;
  sequence->limits.stop_ids = request.stop_token_ids;
  if (!request.ignore_eos) {
    sequence->limits.stop_ids.insert(sequence->limits.stop_ids.end(), limits.eos_ids.begin(),
                                     limits.eos_ids.end());
  }
  return sequence;
}

// What is computed, and therefore reported: a sequence cannot be longer than the KV cache, whatever
// the model allows.
EngineOptions Effective(EngineOptions options) {
  options.scheduler = FitToStep(options.scheduler);
  const int64_t kv_tokens = int64_t{options.scheduler.num_blocks} * options.scheduler.block_size;
  options.limits.max_context_tokens =
      static_cast<int>(std::min({int64_t{options.limits.max_context_tokens},
                                 int64_t{options.scheduler.max_context_tokens}, kv_tokens}));
  return options;
}

}  // namespace

EngineLoop::EngineLoop(const EngineOptions& options, std::unique_ptr<Executor> executor,
                       const Clock* clock, EngineObserver* observer)
    : options_(Effective(options)),
      clock_(clock),
      observer_(observer != nullptr ? observer : &no_observer_),
      seed_(options.seed != 0 ? options.seed : SystemSeed()),
      mailbox_(std::make_shared<Mailbox>(options)),
      executor_(std::move(executor)),
      scheduler_(options.scheduler, clock) {
  mailbox_->Publish(scheduler_.stats());
}

absl::StatusOr<RequestStream> EngineLoop::Submit(GenerateRequest request) {
  if (absl::Status status = ValidateRequest(request, options_.limits); !status.ok()) {
    mailbox_->CountRefused();
    return status;
  }
  const RequestId id = next_id_.fetch_add(1, std::memory_order_relaxed);
  if (!request.sampling.seed) request.sampling.seed = SplitMix64(seed_ + id);
  auto sequence = MakeSequence(id, request, options_.limits, clock_->Now());
  auto state = std::make_shared<StreamState>(
      id, mailbox_, clock_, static_cast<size_t>(options_.max_unread_tokens),
      RequestRecord{.arrival = sequence->arrival, .prompt_tokens = sequence->num_prompt_tokens});
  TRIREME_RETURN_IF_ERROR(mailbox_->Post({std::move(sequence), std::move(request), state}));
  return RequestStream(std::move(state));
}

// Schedule, run, commit. What a step brought is delivered when the next one runs.
bool EngineLoop::Round(bool may_sleep) {
  if (!Receive(mailbox_->Take(idle_ && may_sleep ? Patience() : absl::ZeroDuration())))
    return false;
  FailSlowReaders();

  const absl::Time started = clock_->Now();
  const StepPlan& plan = scheduler_.Plan();
  const bool ended_some = DeliverEnded(started);
  mailbox_->Publish(scheduler_.stats());  // a step may be long, and load is asked for meanwhile
  idle_ = plan.rows.empty() && !ended_some;
  if (plan.rows.empty()) {
    DeliverCommitted();
  } else {
    RunStep(plan, started);
  }
  return true;
}

// The clock is read once between the phases, and not once an event.
void EngineLoop::RunStep(const StepPlan& plan, absl::Time began) {
  const SchedulerStats stats = scheduler_.stats();
  StepRecord record = {.step = plan.step,
                       .begin = began,
                       .planned = clock_->Now(),
                       .rows = static_cast<int>(plan.rows.size()),
                       .decode_rows = plan.num_decode_rows,
                       .tokens = plan.num_tokens,
                       .running = stats.running,
                       .waiting = stats.waiting,
                       .kv_blocks_held = stats.blocks_held,
                       .kv_blocks_total = stats.blocks_total};
  NoteScheduled(plan, record.planned);
  executor_->Submit(plan);
  DeliverCommitted();
  scheduler_.PlanAhead();
  const absl::Status status = executor_->Collect(&result_);
  record.executed = clock_->Now();
  if (status.ok()) {
    committed_ = scheduler_.Commit(plan, &result_);
    committed_at_ = record.executed;
  } else {
    LoseDevice(status);
    DeliverEnded(record.executed);
    mailbox_->Publish(scheduler_.stats());
  }
  record.end = clock_->Now();
  observer_->OnStep(record);
}

// How long the engine thread may sleep: until the clock alone changes something.
absl::Duration EngineLoop::Patience() const {
  absl::Time wake = std::min(scheduler_.NextDeadline(), drain_deadline_);
  if (!pauses_.empty()) wake = std::min(wake, pauses_.front().until);
  // A deadline that has just passed is handled by the next round, not by this one: never zero,
  // which means no wait.
  return std::max(wake - clock_->Now(), absl::Microseconds(1));
}

// False when the engine is being destroyed; every request has had its last event then.
bool EngineLoop::Receive(Mail mail) {
  for (Submission& submission : mail.submissions) Admit(std::move(submission));
  for (const auto& [id, reason] : mail.cancelled) scheduler_.Cancel(id, {reason, {}});
  for (RequestId id : mail.resumed) {
    auto it = live_.find(id);
    if (it == live_.end()) continue;
    it->second.pause_number = 0;
    scheduler_.SetPaused(id, false);
  }
  const absl::Time now = clock_->Now();
  drain_deadline_ = mail.drain_deadline;
  if (mail.closed) {
    DeliverCommitted();
    for (const auto& [id, request] : live_) scheduler_.Cancel(id);
  } else if (now >= drain_deadline_) {
    scheduler_.FailAll(ShuttingDown());
    drain_deadline_ = absl::InfiniteFuture();
  }
  DeliverEnded(now);
  if (mail.check_invariants) {
    scheduler_.CheckInvariants();
    mailbox_->Publish(scheduler_.stats());
    mailbox_->InvariantsChecked();
  }
  if (!mail.closed) return true;
  TRIREME_CHECK(live_.empty());
  return false;
}

void EngineLoop::Admit(Submission submission) {
  const RequestId id = submission.sequence->id;
  LiveRequest& request = live_[id];
  request.stream = std::move(submission.stream);
  request.record = request.stream->record();
  SequenceEvent ended;
  ended.id = id;
  ended.finish = submission.withdrawn;
  if (submission.withdrawn == FinishReason::kNone) {
    request.queued = true;
    absl::Status status = device_error_;
    if (status.ok()) {
      executor_->Open(id, submission.request);
      request.open = true;
      status = scheduler_.Admit(std::move(submission.sequence));
    }
    if (status.ok()) return;
    ended.finish = FinishReason::kError;
    ended.error = std::move(status);
  }
  Deliver(absl::MakeSpan(&ended, 1), clock_->Now());
}

void EngineLoop::FailSlowReaders() {
  if (pauses_.empty()) return;
  const absl::Time now = clock_->Now();
  while (!pauses_.empty()) {
    const Pause& oldest = pauses_.front();
    auto it = live_.find(oldest.id);
    const bool stale = it == live_.end() || it->second.pause_number != oldest.number;
    if (!stale) {
      if (now < oldest.until) return;
      scheduler_.Cancel(
          oldest.id, {FinishReason::kError,
                      WithCode(absl::ResourceExhaustedError("the output was not read for too long"),
                               "slow_reader")});
    }
    pauses_.pop_front();
  }
}

// The first row of a request is a prefill row.
void EngineLoop::NoteScheduled(const StepPlan& plan, absl::Time now) {
  for (size_t i = static_cast<size_t>(plan.num_decode_rows); i < plan.rows.size(); ++i) {
    const Sequence& sequence = *plan.rows[i].sequence;
    LiveRequest& request = live_.at(sequence.id);
    if (!std::exchange(request.queued, false)) continue;
    request.record.first_scheduled = now;
    request.stream->Note(request.record);
    mailbox_->LeftQueue(sequence.num_prompt_tokens);
  }
}

void EngineLoop::DeliverCommitted() { Deliver(std::exchange(committed_, {}), committed_at_); }

// What no step ended, behind what steps have brought; whether there was any.
bool EngineLoop::DeliverEnded(absl::Time now) {
  const absl::Span<SequenceEvent> ended = scheduler_.TakeEvents();
  if (ended.empty()) return false;
  DeliverCommitted();
  Deliver(ended, now);
  return true;
}

// Whoever reads a last event finds it counted already.
void EngineLoop::Deliver(absl::Span<SequenceEvent> events, absl::Time now) {
  for (SequenceEvent& event : events) {
    const RequestId id = event.id;
    auto it = live_.find(id);
    TRIREME_CHECK(it != live_.end());
    LiveRequest& request = it->second;
    Observe(event, now, &request);
    if (event.finish == FinishReason::kNone) {
      if (!request.stream->Append(std::move(event), request.record)) continue;
      scheduler_.SetPaused(id, true);
      request.pause_number = ++num_pauses_;
      pauses_.push_back({now + options_.slow_reader_timeout, id, request.pause_number});
    } else {
      if (request.open && device_error_.ok()) executor_->Close(id);
      if (request.queued) mailbox_->LeftQueue(request.record.prompt_tokens);
      mailbox_->CountFinished(event.finish);
      request.stream->Append(std::move(event), request.record);
      live_.erase(it);
      mailbox_->Retire();
    }
  }
}

void EngineLoop::Observe(const SequenceEvent& event, absl::Time now, LiveRequest* request) {
  RequestRecord& record = request->record;
  record.preemptions = event.num_preemptions;
  if (event.has_token) {
    if (record.generated_tokens == 0) {
      record.first_token = now;
      record.cached_prompt_tokens = event.num_cached_prompt_tokens;
      observer_->OnFirstToken(now - record.arrival);
    } else {
      observer_->OnToken(now - record.last_token);
    }
    record.last_token = now;
    ++record.generated_tokens;
  }
  if (event.finish != FinishReason::kNone) {
    record.finished = now;
    record.finish = event.finish;
    observer_->OnFinish(record);
  }
}

// The details go to the log; clients learn that it was not their fault.
void EngineLoop::LoseDevice(const absl::Status& error) {
  Log(LogLevel::kError, "device_lost", {{"error", FromAbsl(error.message())}});
  device_error_ =
      WithCode(absl::UnavailableError("the model's device failed, the request was not completed"),
               "device_lost");
  mailbox_->DeviceLost(device_error_);
  scheduler_.FailAll(device_error_);
}

}  // namespace trireme::internal
