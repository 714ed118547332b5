// Decides what runs next. A deterministic state machine: no threads, no wall clock, no memory, no
// text.
//
//   Admit -> waiting --(blocks, slot, budget)--> running --(stop, length, error)--> finished
//               ^---- preempted: blocks released, -----'
//                     tokens kept, recomputed later
//
// From either state a cancellation or the deadline ends a sequence too.
//
// Order. All sequences stand in one order of seniority: lower priority number first (as in vLLM),
// then first come first served. A step serves them in this order; nothing overtakes a waiting
// sequence that does not fit yet. Every running sequence that only needs its next token gets it;
// what is left of max_step_tokens goes to prefill chunks, but beside such tokens no more than
// max_prefill_chunk: the time between two tokens of a stream is bounded by that, however many
// prompts come at once (Agrawal et al., Sarathi-Serve, 2024). A short prompt waits for the long one
// before it.
//
// Blocks. A waiting sequence is taken up when all its known tokens fit into what is available, less
// what the senior running ones still need for theirs, less a small watermark (which keeps it from
// being preempted at once). When a running sequence finds no block, others are preempted: paused
// ones first (they gain nothing from their blocks now), then the least senior. A waiting sequence
// may preempt paused ones and those of a strictly higher number, and only when that makes it fit;
// so equals never push each other out and back.
//
// Progress. A sequence alone always fits (Admit sees to that). Let T be the most senior sequence
// that is not paused. Running, T is never preempted (victims are paused, junior to the one who
// asks, or of a higher number than a waiting one), it can take the blocks of all others, and a step
// always has a token left for a prefill: T advances every step. Waiting, T is the front of the
// queue and nothing else is taken up; it can take the place of everything but running sequences of
// its own priority (they got ahead while T was paused); the most senior of these advances every
// step for the same reasons, so they end, and T is taken up. So T ends after finitely many steps,
// and by induction everything does, unless requests of a lower number never cease to arrive:
// priority is strict. That is why nobody gets a number below 0 who has not the right to it
// (server/node/prepare.cc). A step that has work computes at least one token; there is no state in
// which the engine would spin.
//
// A step costs O(rows of the batch + tokens it touches): the waiting queue is never scanned.
//
// Ahead. While a step is computed, PlanAhead plans what of the next one is known whatever comes of
// it: a row for each sequence that will need its next token (blocks only while there are enough for
// everybody: who gets the last ones is a matter of seniority). It hashes the blocks that the step
// fills, too, as all of their tokens are known. Plan adds what depends on how the step ended, and
// drops the rows of those that have ended, that were paused or whose blocks a senior one needs. So
// between two steps there is no work for the streams that just go on, but their tokens.
#pragma once

#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "runtime/base/clock.h"
#include "runtime/kv/block_pool.h"
#include "runtime/scheduler/step_plan.h"
#include "runtime/scheduler/waiting_queue.h"

namespace trireme {

struct SchedulerOptions {
  int block_size = 16;
  int num_blocks = 0;  // KV budget; set from memory by the engine
  // Prompt + generated of one sequence; effectively at most the KV budget.
  int max_context_tokens = 0;
  int max_running = 256;      // sequences with KV blocks; see FitToStep
  int max_step_tokens = 512;  // tokens of one step, decode and prefill together
  // Of prefills: of one sequence in one step, and, in a step that has decode rows, of all together.
  // Streams that run wait for no more than this. See FitToStep.
  int max_prefill_chunk = 512;
  int max_waiting_requests = 1024;              // bounded queue: by requests ...
  int64_t max_waiting_prompt_tokens = 1 << 20;  // ... and by prompt tokens
  bool prefix_cache = true;
};

// What a step can hold of `options`: at most max_step_tokens of a prefill, and fewer running
// sequences than that, so that a prefill advances beside their next tokens. Every scheduler does
// this; whoever reports or warns asks for it.
SchedulerOptions FitToStep(SchedulerOptions options);

struct SchedulerStats {
  int running = 0, waiting = 0;  // preempted and paused ones included
  int blocks_total = 0, blocks_held = 0, blocks_cached = 0;
  int64_t waiting_prompt_tokens = 0;
  uint64_t steps = 0, preemptions = 0, prompt_tokens = 0, generated_tokens = 0;
  // Prompt tokens looked up and found at first scheduling, not after preemption.
  uint64_t prefix_queries_tokens = 0, prefix_hit_tokens = 0;
  uint64_t queue_comparisons = 0;  // work done to keep the waiting queue in order
  uint64_t rows_ahead = 0;         // rows that PlanAhead made
};

// Engine thread only.
class Scheduler {
 public:
  // All sizes of `options` > 0. `clock` must outlive the scheduler.
  Scheduler(const SchedulerOptions& options, const Clock* clock);
  ~Scheduler();

  // Takes a sequence in state "new" (tokens = prompt, not empty; id not in use). RESOURCE_EXHAUSTED
  // (queue full; code "overloaded"), INVALID_ARGUMENT (cannot ever fit: code
  // "context_length_exceeded"). Nothing is kept on error.
  absl::Status Admit(std::unique_ptr<Sequence> sequence);

  // The next step, valid until the next call. Empty rows: nothing to do now (HasWork is false). A
  // plan with rows is outstanding until Commit; at most one is. Deadlines expire here: call it when
  // NextDeadline has passed even without work.
  const StepPlan& Plan();
  // While a plan is outstanding, once at most: makes the next Plan cheap. Sequences may get a block
  // more; the plan's blocks and tokens, which others may be reading, stay where they are.
  void PlanAhead();

  // Applies the results of the outstanding plan, which `plan` is or a copy of it (an empty one: no
  // effect). Sequences cancelled meanwhile yield their last event and no further tokens. The events
  // are those of result->rows that mean something, moved to its front: the caller's.
  absl::Span<SequenceEvent> Commit(const StepPlan& plan, StepResult* result);

  // Events that no step produced: cancellations, expired deadlines, failures. Call after Plan and
  // after Commit. The caller's to move from, valid until the next call.
  absl::Span<SequenceEvent> TakeEvents();

  // Ends a sequence early, as `ending` says. Blocks are released at once, or at Commit when the
  // outstanding plan has a row of the sequence. The first call counts; unknown ids are ignored.
  void Cancel(RequestId id, Ending ending = {.reason = FinishReason::kCancelled});
  // A paused sequence gets no rows; its blocks are the first to be taken when they run short.
  // Unknown ids are ignored.
  void SetPaused(RequestId id, bool paused);
  // Every sequence gets kError (executor lost, drain deadline); cached content is forgotten. An
  // outstanding plan is abandoned: nothing may be computing it any more, and it must not be
  // committed.
  void FailAll(const absl::Status& error);

  bool HasWork() const;  // something is waiting or running (paused ones do not count)
  // Earliest deadline of any sequence, InfiniteFuture when none: until when the engine may sleep.
  absl::Time NextDeadline() const;
  SchedulerStats stats() const;
  void CheckInvariants() const;  // aborts

 private:
  struct Pass;  // one call of Plan

  int BlocksFor(int num_tokens) const;
  LiveSequence* Find(RequestId id);
  // Whether it has a row, or is to get one, in the next step.
  bool IsNext(const LiveSequence& live) const { return live.planned_for > stats_.steps; }
  // Whether it has one in the outstanding step.
  bool IsComputed(const LiveSequence& live) const {
    return plan_outstanding_ && live.planned_for >= stats_.steps;
  }

  // Planning (scheduler_plan.cc).
  void ExpireDeadlines();
  bool Continue(LiveSequence* live, Pass* pass);
  bool TakeUp(LiveSequence* live, Pass* pass);
  bool MakeRoom(LiveSequence* live, const Pass& pass);
  bool HoldPrefix(LiveSequence* live, const Pass& pass);
  int SpareBlocks(const Pass& pass) const;
  bool Reserve(LiveSequence* live, int num_tokens);
  void AddPrefill(LiveSequence* live, int num_tokens, Pass* pass);
  void AddRow(LiveSequence* live, int num_tokens);
  void DropRow(LiveSequence* live);
  void ClearNext();
  void Preempt(LiveSequence* victim);

  // Committing (scheduler_commit.cc).
  static void Describe(const LiveSequence& live, SequenceEvent* event);
  void ExtendHashes(Sequence* sequence);
  void CommitRow(LiveSequence* live, const StepRow& row, SequenceEvent* event);
  void ApplyRow(LiveSequence* live, const StepRow& row, SequenceEvent* event);
  void AcceptToken(LiveSequence* live, SequenceEvent* event);
  void PublishFullBlocks(Sequence* sequence);

  void End(LiveSequence* live, Ending ending);
  void Remove(LiveSequence* live);

  const SchedulerOptions options_;  // with the effective limits
  const Clock* const clock_;
  const int watermark_blocks_;

  BlockPool pool_;
  absl::flat_hash_map<RequestId, std::unique_ptr<LiveSequence>> live_;  // all that have not ended
  WaitingQueue waiting_;
  std::vector<LiveSequence*> running_;                    // most senior first; at most max_running
  std::set<std::pair<absl::Time, RequestId>> deadlines_;  // finite ones of live_
  int num_paused_ = 0;                                    // of running_
  uint64_t next_ticket_ = 1;
  SchedulerStats stats_;  // the counters; the gauges are read off when asked for

  // A plan, and whose rows it has.
  struct Step {
    StepPlan plan;
    std::vector<LiveSequence*> sequences;
  };
  Step step_;  // outstanding: its sequences stay alive
  bool plan_outstanding_ = false;
  Step next_;             // as far as it is planned; a sequence is null when its row was dropped
  size_t num_ahead_ = 0;  // rows of next_ that PlanAhead made
  size_t num_dropped_ = 0;

  // Kept from step to step for their memory.
  std::vector<LiveSequence*> order_;   // of Plan
  std::vector<SequenceEvent> taken_;   // what TakeEvents gave out
  std::vector<SequenceEvent> events_;  // for TakeEvents
};

}  // namespace trireme
