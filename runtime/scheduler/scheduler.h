// Decides what runs next. A deterministic state machine: no threads, no wall clock, no memory, no text.
//
//   Admit -> waiting --(blocks available, budget)--> running --(stop, length, error)--> finished
//                ^------------- preempt (blocks released, recomputed later) ----'
//
// A step costs O(rows in the batch): waiting sequences are kept in ordered queues, never scanned. Deadlines of waiting
// sequences live in a heap.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "runtime/base/clock.h"
#include "runtime/kv/block_pool.h"
#include "runtime/scheduler/step_plan.h"

namespace trireme {

struct SchedulerOptions {
  int block_size = 16;
  int num_blocks = 0;                   // KV budget; set from memory by the engine
  int max_context_tokens = 0;           // prompt + generated of one sequence
  int max_running = 256;                // sequences with KV blocks
  int max_step_tokens = 2048;           // tokens of one step, decode and prefill together
  int max_prefill_chunk = 512;          // tokens of one sequence's prefill in one step
  int max_waiting_requests = 1024;      // bounded queue: by requests ...
  int64_t max_waiting_prompt_tokens = 1 << 20;  // ... and by prompt tokens
  bool prefix_cache = true;
};

struct SchedulerStats {
  int running = 0, waiting = 0;
  int blocks_total = 0, blocks_held = 0, blocks_cached = 0;
  int64_t waiting_prompt_tokens = 0;
  uint64_t steps = 0, preemptions = 0, prompt_tokens = 0, generated_tokens = 0;
  uint64_t prefix_queries_tokens = 0, prefix_hit_tokens = 0;
};

class Scheduler {
 public:
  // `clock` must outlive the scheduler.
  Scheduler(const SchedulerOptions& options, const Clock* clock);
  ~Scheduler();

  // Takes a sequence in state "new" (tokens = prompt). RESOURCE_EXHAUSTED (queue full; code "overloaded"),
  // INVALID_ARGUMENT (cannot ever fit: code "context_length_exceeded"). Nothing is kept on error.
  absl::Status Admit(std::unique_ptr<Sequence> sequence);

  // The next step; empty rows: nothing to do now. At most one plan is outstanding.
  StepPlan Plan();

  // Applies the results of the outstanding plan. Sequences cancelled meanwhile yield no further tokens.
  std::vector<SequenceEvent> Commit(const StepPlan& plan, StepResult result);

  // Events that no step produced: cancellations, expired deadlines, failures. Call after Plan and after Commit.
  std::vector<SequenceEvent> TakeEvents();

  void Cancel(RequestId id);            // idempotent; unknown ids are ignored
  void SetPaused(RequestId id, bool paused);
  void FailAll(const absl::Status& error);  // every sequence gets kError (executor lost, drain deadline)

  bool HasWork() const;                 // something is waiting or running (paused ones do not count)
  // Earliest deadline of any sequence, InfiniteFuture when none: until when the engine may sleep.
  absl::Time NextDeadline() const;
  SchedulerStats stats() const;
  void CheckInvariants() const;         // aborts

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace trireme
