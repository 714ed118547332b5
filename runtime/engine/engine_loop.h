// The engine without its thread: everything between the mailbox and the executor, a round at a
// time. Engine gives it a thread; the simulation (tests/simulation) steps it by hand, which makes a
// whole engine deterministic.
#pragma once

#include <atomic>
#include <deque>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/mailbox.h"

namespace trireme::internal {

class EngineLoop {
 public:
  // As Engine's.
  EngineLoop(const EngineOptions& options, std::unique_ptr<Executor> executor, const Clock* clock,
             EngineObserver* observer);

  // ---- Any thread.
  absl::StatusOr<RequestStream> Submit(GenerateRequest request);  // see Engine::Submit
  Mailbox& mailbox() { return *mailbox_; }
  const EngineOptions& options() const { return options_; }

  // ---- Engine thread.
  // Takes the mail and runs one step, if there is one to run. With `may_sleep` it waits for mail or
  // a deadline when the round before found nothing to do. False once the mailbox is closed and
  // every request has had its last event: the last call.
  bool Round(bool may_sleep);
  void CheckInvariants() const { scheduler_.CheckInvariants(); }  // aborts

 private:
  // A request from the moment the engine thread has seen it until its last event.
  struct LiveRequest {
    std::shared_ptr<StreamState> stream;
    RequestRecord record;
    bool queued = false;        // holds a place in the queue: no step has touched it yet
    bool open = false;          // known to the executor
    uint64_t pause_number = 0;  // of its current pause; 0: it is not paused
  };

  struct Pause {
    absl::Time until;  // cancelled then
    RequestId id;
    uint64_t number;
  };

  absl::Duration Patience() const;
  bool Receive(Mail mail);
  void Admit(Submission submission);
  void FailSlowReaders();
  void RunStep(const StepPlan& plan, absl::Time began);
  void NoteScheduled(const StepPlan& plan, absl::Time now);
  void DeliverCommitted();
  bool DeliverEnded(absl::Time now);
  void Deliver(absl::Span<SequenceEvent> events, absl::Time now);
  void Observe(const SequenceEvent& event, absl::Time now, LiveRequest* request);
  void LoseDevice(const absl::Status& error);

  // Constant after construction.
  const EngineOptions options_;
  const Clock* const clock_;
  EngineObserver no_observer_;
  EngineObserver* const observer_;
  const uint64_t seed_;
  const std::shared_ptr<Mailbox> mailbox_;

  std::atomic<RequestId> next_id_{1};

  // Engine thread only.
  std::unique_ptr<Executor> executor_;
  Scheduler scheduler_;
  StepResult result_;
  absl::Span<SequenceEvent> committed_;  // of result_: to be delivered while the next step runs
  absl::Time committed_at_;
  absl::flat_hash_map<RequestId, LiveRequest> live_;
  std::deque<Pause> pauses_;  // oldest first; those of requests that resumed or ended are stale
  uint64_t num_pauses_ = 0;
  absl::Time drain_deadline_ = absl::InfiniteFuture();
  absl::Status device_error_;  // not OK: the executor is not used any more
  bool idle_ = true;           // nothing can happen before mail or a deadline
};

}  // namespace trireme::internal
