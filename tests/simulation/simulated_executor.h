// The simulated device as the engine's executor, with seeded faults and a virtual clock. Checks
// what the engine asks of it: the budget, one row per sequence, nobody overtaken, KV that is its
// own.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "runtime/base/clock.h"
#include "runtime/engine/executor.h"
#include "runtime/scheduler/scheduler.h"
#include "tests/fakes/simulated_device.h"

namespace trireme {

class SimulatedExecutor final : public Executor {
 public:
  // `clock` and `random` must outlive it.
  SimulatedExecutor(const SchedulerOptions& options, ManualClock* clock, std::mt19937* random)
      : options_(options),
        clock_(clock),
        random_(random),
        device_(options.num_blocks, options.block_size) {}

  // ---- Controls and observations.
  bool faults = true;        // rows fail, allocations fail, steps are slow
  bool lose_device = false;  // the next step does
  std::set<RequestId> failed;
  size_t num_open() const { return open_.size(); }
  bool is_open(RequestId id) const { return open_.contains(id); }

  void Open(RequestId id, const GenerateRequest& request) override {
    EXPECT_TRUE(open_.emplace(id, request.priority).second) << "opened twice: " << id;
    unscheduled_.emplace(request.priority, id);
  }
  void Close(RequestId id) override {
    const auto found = open_.find(id);
    ASSERT_NE(found, open_.end()) << "closed but not open: " << id;
    unscheduled_.erase({found->second, id});
    open_.erase(found);
  }

  void Submit(const StepPlan& plan) override {
    ASSERT_EQ(plan_, nullptr);
    plan_ = &plan;
    int num_tokens = 0;
    std::set<RequestId> seen;
    for (const StepRow& row : plan.rows) {
      const RequestId id = row.sequence->id;
      num_tokens += row.num_tokens;
      ASSERT_TRUE(seen.insert(id).second) << "two rows of one sequence";
      ASSERT_TRUE(open_.contains(id));
      ASSERT_LE(row.num_tokens, options_.max_prefill_chunk);
      unscheduled_.erase({open_[id], id});
    }
    ASSERT_EQ(num_tokens, plan.num_tokens);
    ASSERT_LE(num_tokens, options_.max_step_tokens);
    // First come, first served within a priority: so the oldest wait is bounded by what is senior.
    for (const StepRow& row : plan.rows) {
      if (unscheduled_.empty() || row.sequence->num_preemptions > 0) continue;
      const std::pair<int, RequestId> mine = {open_[row.sequence->id], row.sequence->id};
      if (row.first_token <= row.sequence->num_cached_prompt) {
        EXPECT_LT(mine, *unscheduled_.begin()) << "a senior request was overtaken";
      }
    }
  }

  absl::Status Collect(StepResult* result) override {
    const StepPlan& plan = *std::exchange(plan_, nullptr);
    const bool slow = faults && (*random_)() % 50 == 0;
    clock_->Advance(absl::Milliseconds(slow ? 500 : 1));
    if (lose_device) return absl::InternalError("injected: the device is gone");
    device_.Run(plan, result);
    EXPECT_EQ(device_.num_mismatches(), 0) << "a row saw KV that is not its own";
    for (size_t i = 0; faults && i < plan.rows.size(); ++i) {
      if ((*random_)() % 200 != 0) continue;
      result->rows[i].error = (*random_)() % 2 == 0
                                  ? absl::InternalError("injected: NaN logits")
                                  : absl::ResourceExhaustedError("injected: allocation failed");
      failed.insert(plan.rows[i].sequence->id);
    }
    return absl::OkStatus();
  }

 private:
  const SchedulerOptions options_;
  ManualClock* const clock_;
  std::mt19937* const random_;
  SimulatedDevice device_;
  std::map<RequestId, int> open_;                    // with the priority
  std::set<std::pair<int, RequestId>> unscheduled_;  // (priority, id): most senior first
  const StepPlan* plan_ = nullptr;
};

}  // namespace trireme
