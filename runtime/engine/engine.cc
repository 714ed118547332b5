#include "runtime/engine/engine.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <random>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/engine/mailbox.h"
#include "runtime/engine/stream_state.h"

namespace trireme {
namespace {

using internal::Mail;
using internal::Mailbox;
using internal::StreamState;
using internal::Submission;

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

// A sequence cannot be longer than the KV cache, whatever the model allows.
EngineOptions Effective(EngineOptions options) {
  const int64_t kv_tokens = int64_t{options.scheduler.num_blocks} * options.scheduler.block_size;
  options.limits.max_context_tokens =
      static_cast<int>(std::min({int64_t{options.limits.max_context_tokens},
                                 int64_t{options.scheduler.max_context_tokens}, kv_tokens}));
  return options;
}

// A request from the moment the engine thread has seen it until its last event.
struct LiveRequest {
  std::shared_ptr<StreamState> stream;
  RequestRecord record;
  absl::Time last_token;
  bool queued = false;        // holds a place in the queue: no step has touched it yet
  bool open = false;          // known to the executor
  uint64_t pause_number = 0;  // of its current pause; 0: it is not paused
};

struct Pause {
  absl::Time until;  // cancelled then
  RequestId id;
  uint64_t number;
};

}  // namespace

struct Engine::Impl {
  Impl(const EngineOptions& options, std::unique_ptr<Executor> executor, const Clock* clock,
       EngineObserver* observer)
      : options(Effective(options)),
        clock(clock),
        observer(observer != nullptr ? observer : &no_observer),
        seed(options.seed != 0 ? options.seed : SystemSeed()),
        mailbox(std::make_shared<Mailbox>(options)),
        executor(std::move(executor)),
        scheduler(options.scheduler, clock) {}

  absl::StatusOr<RequestStream> Submit(GenerateRequest request);

  // ---- Engine thread.
  void Run();
  absl::Duration Patience() const;
  bool Receive(Mail mail);
  void Admit(Submission submission);
  void CancelSlowReaders();
  void NoteScheduled(const StepPlan& plan);
  bool Deliver(std::vector<SequenceEvent> events);
  void Observe(const SequenceEvent& event, LiveRequest* request);
  void LoseDevice(const absl::Status& error);

  // Constant after construction.
  const EngineOptions options;
  const Clock* const clock;
  EngineObserver no_observer;
  EngineObserver* const observer;
  const uint64_t seed;
  const std::shared_ptr<Mailbox> mailbox;

  std::atomic<RequestId> next_id{1};

  // Engine thread only.
  std::unique_ptr<Executor> executor;
  Scheduler scheduler;
  absl::flat_hash_map<RequestId, LiveRequest> live;
  std::deque<Pause> pauses;  // oldest first; those of requests that resumed or ended are stale
  uint64_t num_pauses = 0;
  absl::Time drain_deadline = absl::InfiniteFuture();
  absl::Status device_error;  // not OK: the executor is not used any more

  std::thread thread;
};

absl::StatusOr<RequestStream> Engine::Impl::Submit(GenerateRequest request) {
  if (absl::Status status = ValidateRequest(request, options.limits); !status.ok()) {
    mailbox->CountRefused();
    return status;
  }
  const RequestId id = next_id.fetch_add(1, std::memory_order_relaxed);
  if (!request.sampling.seed) request.sampling.seed = SplitMix64(seed + id);
  auto sequence = MakeSequence(id, request, options.limits, clock->Now());
  auto state = std::make_shared<StreamState>(id, mailbox, clock,
                                             static_cast<size_t>(options.max_unread_tokens));
  TRIREME_RETURN_IF_ERROR(mailbox->Post({std::move(sequence), std::move(request), state}));
  return RequestStream(std::move(state));
}

// The engine: schedule, run, commit.
void Engine::Impl::Run() {
  bool idle = true;  // nothing can happen before mail or a deadline
  mailbox->Publish(scheduler.stats());
  for (;;) {
    if (!Receive(mailbox->Take(idle ? Patience() : absl::ZeroDuration()))) return;
    CancelSlowReaders();

    const absl::Time started = clock->Now();
    const StepPlan plan = scheduler.Plan();
    const bool ended_some = Deliver(scheduler.TakeEvents());
    idle = plan.rows.empty() && !ended_some;
    if (!plan.rows.empty()) {
      NoteScheduled(plan);
      mailbox->Publish(scheduler.stats());  // a step may be long, and load is asked for meanwhile
      executor->Submit(plan);
      absl::StatusOr<StepResult> result = executor->Collect();
      if (result.ok()) {
        Deliver(scheduler.Commit(plan, *std::move(result)));
      } else {
        LoseDevice(result.status());
      }
      Deliver(scheduler.TakeEvents());
      observer->OnStep(plan.num_tokens, plan.num_decode_rows, clock->Now() - started);
    }
    mailbox->Publish(scheduler.stats());
  }
}

// How long the engine thread may sleep: until the clock alone changes something.
absl::Duration Engine::Impl::Patience() const {
  absl::Time wake = std::min(scheduler.NextDeadline(), drain_deadline);
  if (!pauses.empty()) wake = std::min(wake, pauses.front().until);
  // A deadline that has just passed is handled by the next round, not by this one: never zero,
  // which means no wait.
  return std::max(wake - clock->Now(), absl::Microseconds(1));
}

// False when the engine is being destroyed; every request has had its last event then.
bool Engine::Impl::Receive(Mail mail) {
  for (Submission& submission : mail.submissions) Admit(std::move(submission));
  for (const auto& [id, reason] : mail.cancelled) scheduler.Cancel(id, {reason, {}});
  for (RequestId id : mail.resumed) {
    auto it = live.find(id);
    if (it == live.end()) continue;
    it->second.pause_number = 0;
    scheduler.SetPaused(id, false);
  }
  drain_deadline = mail.drain_deadline;
  if (mail.closed) {
    for (const auto& [id, request] : live) scheduler.Cancel(id);
  } else if (clock->Now() >= drain_deadline) {
    scheduler.FailAll(
        WithCode(absl::UnavailableError("the server is shutting down"), "shutting_down"));
    drain_deadline = absl::InfiniteFuture();
  }
  Deliver(scheduler.TakeEvents());
  if (mail.check_invariants) {
    scheduler.CheckInvariants();
    mailbox->Publish(scheduler.stats());
    mailbox->InvariantsChecked();
  }
  if (!mail.closed) return true;
  TRIREME_CHECK(live.empty());
  return false;
}

void Engine::Impl::Admit(Submission submission) {
  const RequestId id = submission.sequence->id;
  LiveRequest& request = live[id];
  request.stream = std::move(submission.stream);
  request.record.arrival = submission.sequence->arrival;
  request.record.prompt_tokens = submission.sequence->num_prompt_tokens;
  std::vector<SequenceEvent> ended(1);
  ended[0].id = id;
  ended[0].finish = submission.withdrawn;
  if (submission.withdrawn == FinishReason::kNone) {
    request.queued = true;
    absl::Status status = device_error;
    if (status.ok()) {
      executor->Open(id, submission.request);
      request.open = true;
      status = scheduler.Admit(std::move(submission.sequence));
    }
    if (status.ok()) return;
    ended[0].finish = FinishReason::kError;
    ended[0].error = std::move(status);
  }
  Deliver(std::move(ended));
}

void Engine::Impl::CancelSlowReaders() {
  const absl::Time now = clock->Now();
  while (!pauses.empty()) {
    const Pause& oldest = pauses.front();
    auto it = live.find(oldest.id);
    const bool stale = it == live.end() || it->second.pause_number != oldest.number;
    if (!stale) {
      if (now < oldest.until) return;
      Log(LogLevel::kInfo, "slow_reader", {{"request", oldest.id}});
      scheduler.Cancel(
          oldest.id, {FinishReason::kError,
                      WithCode(absl::ResourceExhaustedError("the output was not read for too long"),
                               "slow_reader")});
    }
    pauses.pop_front();
  }
}

// The first row of a request is a prefill row.
void Engine::Impl::NoteScheduled(const StepPlan& plan) {
  const absl::Time now = clock->Now();
  for (size_t i = static_cast<size_t>(plan.num_decode_rows); i < plan.rows.size(); ++i) {
    const Sequence& sequence = *plan.rows[i].sequence;
    LiveRequest& request = live.at(sequence.id);
    if (!std::exchange(request.queued, false)) continue;
    request.record.first_scheduled = now;
    mailbox->LeftQueue(sequence.num_prompt_tokens);
  }
}

// True when some request ended. Whoever reads a last event finds it counted already.
bool Engine::Impl::Deliver(std::vector<SequenceEvent> events) {
  bool ended_some = false;
  for (SequenceEvent& event : events) {
    const RequestId id = event.id;
    auto it = live.find(id);
    TRIREME_CHECK(it != live.end());
    LiveRequest& request = it->second;
    Observe(event, &request);
    if (event.finish == FinishReason::kNone) {
      if (!request.stream->Append(std::move(event))) continue;
      scheduler.SetPaused(id, true);
      request.pause_number = ++num_pauses;
      pauses.push_back({clock->Now() + options.slow_reader_timeout, id, request.pause_number});
    } else {
      ended_some = true;
      if (request.open && device_error.ok()) executor->Close(id);
      if (request.queued) mailbox->LeftQueue(request.record.prompt_tokens);
      mailbox->CountFinished(event.finish);
      request.stream->Append(std::move(event));
      live.erase(it);
      mailbox->Retire();
    }
  }
  return ended_some;
}

void Engine::Impl::Observe(const SequenceEvent& event, LiveRequest* request) {
  RequestRecord& record = request->record;
  const absl::Time now = clock->Now();
  record.preemptions = event.num_preemptions;
  if (event.has_token) {
    if (record.generated_tokens == 0) {
      record.first_token = now;
      record.cached_prompt_tokens = event.num_cached_prompt_tokens;
      observer->OnFirstToken(now - record.arrival);
    } else {
      observer->OnToken(now - request->last_token);
    }
    request->last_token = now;
    ++record.generated_tokens;
  }
  if (event.finish != FinishReason::kNone) {
    record.finished = now;
    record.finish = event.finish;
    observer->OnFinish(record);
  }
}

// The details go to the log; clients learn that it was not their fault.
void Engine::Impl::LoseDevice(const absl::Status& error) {
  Log(LogLevel::kError, "device_lost", {{"error", FromAbsl(error.message())}});
  device_error =
      WithCode(absl::UnavailableError("the model's device failed, the request was not completed"),
               "device_lost");
  mailbox->DeviceLost(device_error);
  scheduler.FailAll(device_error);
}

Engine::Engine(const EngineOptions& options, std::unique_ptr<Executor> executor, const Clock* clock,
               EngineObserver* observer)
    : impl_(std::make_unique<Impl>(options, std::move(executor), clock, observer)) {
  impl_->thread = std::thread([impl = impl_.get()] { impl->Run(); });
}

Engine::~Engine() {
  impl_->mailbox->Close();
  impl_->thread.join();
}

absl::StatusOr<RequestStream> Engine::Submit(GenerateRequest request) {
  return impl_->Submit(std::move(request));
}
void Engine::Drain(absl::Time deadline) { impl_->mailbox->Drain(deadline); }
bool Engine::draining() const { return stats().draining; }
EngineStats Engine::stats() const { return impl_->mailbox->stats(); }
const EngineOptions& Engine::options() const { return impl_->options; }
void Engine::Poke() { impl_->mailbox->Wake(); }
void Engine::WaitIdleAndCheck() { impl_->mailbox->WaitIdleAndCheck(); }

}  // namespace trireme
