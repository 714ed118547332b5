// A scheduler under load, for what measures its step: 1,000 sequences decode, any number waits, and
// every step samples one token of each running one.
#pragma once

#include <memory>

#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/scheduler/scheduler.h"

namespace trireme::bench {

class BusyScheduler {
 public:
  static constexpr int kRunning = 1000;

  explicit BusyScheduler(int waiting) : scheduler_(Options(waiting), &clock_) {
    for (int i = 0; i < kRunning; ++i) Admit();
    // Prompts first: their blocks fill at different steps from now on, as those of real ones do.
    while (scheduler_.stats().running < kRunning) Step();
    while (plan_->num_decode_rows < kRunning) Step();
    for (int i = 0; i < waiting; ++i) Admit();
    TRIREME_CHECK(scheduler_.stats().waiting == waiting);
  }

  // All that the engine asks of the scheduler for one step. Plan and Commit come between two steps,
  // PlanAhead while one is computed.
  void Step() {
    Plan();
    PlanAhead();
    Compute();
    Commit();
  }
  void Plan() {
    plan_ = &scheduler_.Plan();
    TRIREME_CHECK(!plan_->rows.empty());
  }
  void PlanAhead() { scheduler_.PlanAhead(); }
  // The executor's part.
  void Compute() {
    result_.Reset(plan_->rows.size());
    for (SequenceEvent& row : result_.rows) row.token.id = 1000;
  }
  void Commit() {
    const size_t num_events = scheduler_.Commit(*plan_, &result_).size();
    TRIREME_CHECK(num_events >= static_cast<size_t>(plan_->num_decode_rows));
    TRIREME_CHECK(scheduler_.TakeEvents().empty());
  }

 private:
  static constexpr int kMaxContext = 4096, kBlock = 16;

  static SchedulerOptions Options(int waiting) {
    return {.block_size = kBlock,
            .num_blocks = kRunning * kMaxContext / kBlock,
            .max_context_tokens = kMaxContext,
            .max_running = kRunning,
            .max_step_tokens = 2 * kRunning,
            .max_waiting_requests = kRunning + waiting,
            .max_waiting_prompt_tokens = int64_t{kRunning + waiting} * 64};
  }

  void Admit() {
    auto sequence = std::make_unique<Sequence>();
    sequence->id = ++num_admitted_;
    sequence->tenant = "bench";
    sequence->num_prompt_tokens = 16 + static_cast<int>(num_admitted_ % kBlock);
    sequence->tokens.resize(static_cast<size_t>(sequence->num_prompt_tokens),
                            static_cast<TokenId>(num_admitted_));
    sequence->limits = {.max_tokens = kMaxContext - 64, .stop_ids = {2, 3}};
    TRIREME_CHECK(scheduler_.Admit(std::move(sequence)).ok());
  }

  ManualClock clock_;
  Scheduler scheduler_;
  const StepPlan* plan_ = nullptr;
  StepResult result_;
  RequestId num_admitted_ = 0;
};

}  // namespace trireme::bench
