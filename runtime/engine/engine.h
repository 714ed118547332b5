// The engine: a bounded inbox, one thread that loops schedule -> run -> commit, and one bounded
// stream per request.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/base/clock.h"
#include "runtime/engine/executor.h"
#include "runtime/engine/request.h"
#include "runtime/scheduler/scheduler.h"

namespace trireme {

namespace internal {
class EngineLoop;
class StreamState;
}  // namespace internal

// What the engine notes of a request. Engine-clock times; those of what has not happened are the
// epoch.
struct RequestRecord {
  absl::Time arrival, first_scheduled, first_token, last_token, finished;
  int prompt_tokens = 0, cached_prompt_tokens = 0, generated_tokens = 0, preemptions = 0;
  FinishReason finish = FinishReason::kNone;
};

// The reader's end of one request. Move-only; destruction cancels within two steps. Used by one
// thread at a time.
class RequestStream {
 public:
  RequestStream(RequestStream&&) noexcept;
  RequestStream& operator=(RequestStream&&) noexcept;
  ~RequestStream();

  RequestId id() const;
  // What the engine has noted of the request so far: complete once the last event has arrived.
  RequestRecord record() const;
  // Everything that has arrived since the last call, merged into one event; nullopt when nothing
  // has.
  std::optional<StreamEvent> TryNext();
  // The same into `event`, whose memory takes what arrives next: a reader that keeps one event
  // reads token by token without allocations. False, and `event` is empty, when nothing has
  // arrived.
  bool TryNext(StreamEvent* event);
  // Blocks until TryNext has something or the deadline has passed (DEADLINE_EXCEEDED). OUT_OF_RANGE
  // at once after the last event.
  absl::StatusOr<StreamEvent> Next(absl::Time deadline);
  // Calls `ready` exactly once, when TryNext has something: at once if it has already, else from
  // the engine thread. `ready` must not block: it posts to its own executor. A second call replaces
  // the first. Destruction drops it: once the destructor has returned, `ready` neither runs nor
  // will run.
  void NotifyWhenReady(absl::AnyInvocable<void()> ready);
  // Idempotent; the stream still delivers its final event, with `reason`: kCancelled, or kStop when
  // the reader has found the end it was looking for (a stop string).
  void Cancel(FinishReason reason = FinishReason::kCancelled);

 private:
  friend class internal::EngineLoop;
  explicit RequestStream(std::shared_ptr<internal::StreamState> state);
  std::shared_ptr<internal::StreamState> state_;
};

struct EngineOptions {
  SchedulerOptions scheduler;
  RequestLimits limits;
  // Requests handed over but not yet seen by the engine thread, cancelled ones among them: what a
  // storm of calls can make it keep during one step.
  size_t max_inbox = 4096;
  int max_unread_tokens = 4096;  // a stream with more is paused until its reader takes them
                                 // (it gets the token of the step that runs, too)
  // Paused that long: fails with RESOURCE_EXHAUSTED (code "slow_reader").
  absl::Duration slow_reader_timeout = absl::Seconds(30);
  // Of the seeds of requests that bring none; 0: from the operating system.
  uint64_t seed = 0;
};

struct EngineStats {
  SchedulerStats scheduler;
  // Requests: accepted; turned away by Submit; and how the accepted ones ended (failed: deadlines
  // and errors).
  uint64_t submitted = 0, refused = 0;
  uint64_t finished_stop = 0, finished_length = 0, cancelled = 0, failed = 0;
  bool draining = false;
  bool device_lost = false;  // the executor failed: nothing is accepted any more
};

// One step that ran. Engine-clock times, in order; plan, execution and commit fill it without gaps.
// While it is executed, what the step before brought is delivered.
struct StepRecord {
  uint64_t step = 0;  // counts from 1
  absl::Time begin, planned, executed, end;
  int rows = 0, decode_rows = 0;
  int tokens = 0;  // computed: one by each decode row, the rest are prefill
  // While it ran.
  int running = 0, waiting = 0, kv_blocks_held = 0, kv_blocks_total = 0;
};

// Called on the engine thread; must be quick and not block.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnStep(const StepRecord& /*record*/) {}
  virtual void OnToken(absl::Duration /*since_previous*/) {}
  virtual void OnFirstToken(absl::Duration /*since_arrival*/) {}
  virtual void OnFinish(const RequestRecord& /*record*/) {}
};

// Thread-safe.
class Engine {
 public:
  // `executor` is owned; `clock` and `observer` (may be null) must outlive the engine.
  Engine(const EngineOptions& options, std::unique_ptr<Executor> executor, const Clock* clock,
         EngineObserver* observer);
  // Cancels everything and joins.
  ~Engine();

  // Never blocks. INVALID_ARGUMENT from the validator; RESOURCE_EXHAUSTED (code "overloaded") when
  // the queue is full; UNAVAILABLE while draining and once the device is lost.
  absl::StatusOr<RequestStream> Submit(GenerateRequest request);

  // Refuses new requests, lets accepted ones finish until `deadline`, then fails them
  // (UNAVAILABLE). Blocks until none is left.
  void Drain(absl::Time deadline);
  // OK, or what Submit answers to whatever it is asked: UNAVAILABLE, code "draining",
  // "shutting_down" or "device_lost".
  absl::Status accepting() const;
  // `lost` is called once, when the device is lost (at once, if it is): on any thread, quickly, and
  // while its requests are being failed. Drain waits for these.
  void WatchDevice(std::function<void()> lost);
  EngineStats stats() const;
  // limits.max_context_tokens is at most what the KV cache can hold.
  const EngineOptions& options() const;
  // For tests that move a ManualClock: the engine thread looks at the clock again.
  void Poke();
  // For tests: waits until nothing is queued or running, then checks the scheduler's invariants.
  void WaitIdleAndCheck();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme
