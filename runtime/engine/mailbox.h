// The desk between the engine thread and everybody else. Submissions, cancellations and resumed
// readers are left here; the engine thread takes them all at once, and sleeps here when it has
// nothing to do. Queue bounds are kept here too, so that a full queue is refused by the submitting
// thread at once.
//
// Streams hold a reference, so a Mailbox may outlive its engine; what is posted then is ignored.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/engine/engine.h"

namespace trireme::internal {

struct Submission {
  std::unique_ptr<Sequence> sequence;
  GenerateRequest request;
  std::shared_ptr<StreamState> stream;
  // Not kNone: cancelled before the engine thread saw it. It holds no place in the queue any more.
  FinishReason withdrawn = FinishReason::kNone;
};

struct Cancellation {
  RequestId id;
  FinishReason reason;
  bool operator==(const Cancellation&) const = default;
};

struct Mail {
  std::vector<Submission> submissions;                 // in order of submission
  std::vector<Cancellation> cancelled;                 // of requests the engine thread has seen
  std::vector<RequestId> resumed;                      // their readers have caught up
  absl::Time drain_deadline = absl::InfiniteFuture();  // earliest asked for so far
  bool check_invariants = false;
  bool closed = false;  // the engine is being destroyed
};

class Mailbox {
 public:
  explicit Mailbox(const EngineOptions& options);

  // ---- Any thread.
  // RESOURCE_EXHAUSTED (code "overloaded") beyond the queue bounds; UNAVAILABLE once draining,
  // closed or without a device.
  absl::Status Post(Submission submission);
  void PostCancel(RequestId id, FinishReason reason);
  void PostResume(RequestId id);
  void Wake();  // the clock may have moved
  void Close();
  void CountRefused();
  // Refuses new requests; returns when none is live. The engine thread fails the rest at
  // `deadline`.
  void Drain(absl::Time deadline);
  // Returns when no request is live and the engine thread has checked its invariants after that.
  void WaitIdleAndCheck();
  absl::Status accepting() const;                // OK, or what every Post gets
  void WatchDevice(std::function<void()> lost);  // see Engine::WatchDevice
  EngineStats stats() const;  // what has not reached the engine thread counts as waiting

  // ---- Engine thread.
  // Everything posted since the last call; waits for something for at most `patience` (zero: does
  // not wait).
  Mail Take(absl::Duration patience);
  void DeviceLost(absl::Status reason);     // every later Post gets `reason`
  void LeftQueue(int num_prompt_tokens);    // a request was scheduled, or ended before that
  void CountFinished(FinishReason reason);  // before its last event is delivered ...
  void Retire();                            // ... and after: it is no longer live
  void Publish(const SchedulerStats& scheduler);
  void InvariantsChecked();

 private:
  absl::Status Refusal(const Submission& submission) const;
  void LeaveQueue(int64_t num_prompt_tokens);  // with mu_ held
  void Changed();                              // wakes the engine thread; with mu_ held

  // Constant after construction.
  const size_t max_inbox_;
  const size_t max_queued_;
  const int64_t max_queued_prompt_tokens_;

  // Guarded by mu_. (Not an absl::Mutex: its timed waits follow the wall clock, which may jump.)
  mutable std::mutex mu_;
  std::condition_variable mail_arrived_;
  std::condition_variable idle_or_checked_;
  Mail mail_;
  bool has_mail_ = false;
  std::function<void()> device_lost_;
  absl::Status refusal_;              // not OK: nothing is accepted any more
  size_t queued_ = 0;                 // accepted, not yet scheduled
  int64_t queued_prompt_tokens_ = 0;  // of those
  size_t live_ = 0;                   // accepted, last event not yet delivered
  uint64_t checks_done_ = 0;
  EngineStats stats_;
};

}  // namespace trireme::internal
