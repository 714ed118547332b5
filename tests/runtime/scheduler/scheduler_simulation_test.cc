// Seeded chaos: random requests, cancels, pauses, deadlines and row failures over small pools, with
// every rule checked at every step; then the faults stop, and everything must finish.
//
//   TRIREME_SIMULATION_SEED=17 build/test/scheduler_test --gtest_filter='SchedulerSimulation.*'
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "runtime/scheduler/scheduler.h"
#include "tests/fakes/seed_report.h"
#include "tests/fakes/simulated_device.h"

namespace trireme {
namespace {

constexpr int kSeeds = 600;

struct Expected {
  int num_prompt = 0;
  bool want_prompt_logits = false;
  std::vector<TokenId> prompt, output;
  FinishReason finish = FinishReason::kNone;
  bool cancelled = false, failed = false, has_deadline = false;
};
struct Observed {
  std::vector<TokenId> output, prompt_logprobs;
  int num_ends = 0;
  FinishReason finish = FinishReason::kNone;
};

struct Coverage {
  uint64_t preemptions = 0, hit_tokens = 0, refused = 0, chunked = 0;
  std::map<FinishReason, int> ends;
};

class Simulation {
 public:
  Simulation(uint32_t seed, Coverage* coverage)
      : random_(seed),
        coverage_(coverage),
        options_(RandomOptions()),
        scheduler_(options_, &clock_),
        device_(options_.num_blocks, options_.block_size) {}

  void Run() {
    for (int step = 0; step < 120; ++step) {
      for (int n = Below(3); n > 0; --n) Admit();
      Disturb();
      Step(/*faults=*/true);
      clock_.Advance(absl::Milliseconds(Below(20)));
      if (testing::Test::HasFatalFailure()) return;
    }
    for (const auto& [id, expected] : expected_) scheduler_.SetPaused(id, false);
    int64_t steps_left =
        10;  // every step computes a token, and a preemption costs a prefill at most
    steps_left += int64_t{4} * options_.max_context_tokens * static_cast<int>(expected_.size());
    while (scheduler_.HasWork()) {
      ASSERT_GT(steps_left--, 0) << "no progress";
      Step(/*faults=*/false);
      if (testing::Test::HasFatalFailure()) return;
    }
    CheckEnd();
  }

 private:
  int Below(int n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }

  SchedulerOptions RandomOptions() {
    SchedulerOptions options;
    options.block_size = 1 + Below(4);
    options.num_blocks = 2 + Below(20);
    options.max_context_tokens = 2 + Below(60);
    options.max_running = 1 + Below(8);
    options.max_step_tokens = 1 + Below(24);
    options.max_prefill_chunk = 1 + Below(12);
    options.max_waiting_requests = 3 + Below(30);
    options.max_waiting_prompt_tokens = 20 + Below(400);
    options.prefix_cache = Below(5) != 0;
    return options;
  }

  int context_limit() const {
    return std::min(options_.max_context_tokens, options_.num_blocks * options_.block_size);
  }

  void Admit() {
    auto sequence = std::make_unique<Sequence>();
    sequence->id = ++last_id_;
    sequence->tenant = std::string(1, static_cast<char>('a' + Below(2)));
    sequence->priority = Below(4) == 0 ? Below(3) : 0;
    sequence->arrival = clock_.Now();
    if (Below(8) == 0) sequence->deadline = clock_.Now() + absl::Milliseconds(Below(300));
    // Prompts share prefixes: counting up from a few starts.
    const int start = Below(3);
    const int length = 1 + Below(context_limit() + 1);
    for (int i = 0; i < length; ++i) sequence->tokens.push_back(start * 100 + i);
    sequence->num_prompt_tokens = length;
    sequence->limits.max_tokens = Below(12) == 0 ? 0 : 1 + Below(30);
    sequence->limits.min_tokens = Below(4);
    if (Below(2) == 0) sequence->limits.stop_ids = {Below(kSimulatedVocab), 3, 4};
    sequence->want_prompt_logits = Below(10) == 0;

    Expected expected;
    expected.num_prompt = length;
    expected.prompt = sequence->tokens;
    expected.want_prompt_logits = sequence->want_prompt_logits;
    expected.has_deadline = sequence->deadline != absl::InfiniteFuture();
    std::tie(expected.output, expected.finish) = SoloRun(*sequence, context_limit());
    const bool can_ever_fit = length + (sequence->limits.max_tokens > 0 ? 1 : 0) <= context_limit();
    const absl::Status status = scheduler_.Admit(std::move(sequence));
    if (status.ok()) {
      ASSERT_TRUE(can_ever_fit);
      expected_[last_id_] = expected;
      live_.insert(last_id_);
    } else {
      ++coverage_->refused;
      ASSERT_EQ(status.code(), can_ever_fit ? absl::StatusCode::kResourceExhausted
                                            : absl::StatusCode::kInvalidArgument);
    }
  }

  RequestId Pick() {
    auto it = live_.begin();
    std::advance(it, Below(static_cast<int>(live_.size())));
    return *it;
  }

  // Also called while a plan is outstanding.
  void Disturb() {
    if (live_.empty()) return;
    if (Below(12) == 0) {
      const RequestId id = Pick();
      expected_[id].cancelled = true;
      scheduler_.Cancel(id);
      if (Below(2) == 0) scheduler_.Cancel(id);
    }
    if (Below(4) == 0) {
      const RequestId id = Pick();
      const bool paused = Below(2) == 0;
      scheduler_.SetPaused(id, paused);
      if (paused) {
        paused_.insert(id);
      } else {
        paused_.erase(id);
      }
    }
    scheduler_.CheckInvariants();
    Receive(scheduler_.TakeEvents());
  }

  void Step(bool faults) {
    if (!faults) paused_.clear();
    const StepPlan plan = scheduler_.Plan();
    Receive(scheduler_.TakeEvents());
    scheduler_.CheckInvariants();
    CheckPlan(plan);
    ASSERT_EQ(plan.rows.empty(), !scheduler_.HasWork());
    StepResult result;
    device_.Run(plan, &result);
    ASSERT_EQ(device_.num_mismatches(), 0) << "a row saw KV that is not its own";
    if (faults) Disturb();
    if (!plan.rows.empty() && Below(4) != 0) {
      scheduler_.PlanAhead();
      scheduler_.CheckInvariants();
    }
    if (faults) {
      Disturb();
      for (size_t i = 0; i < plan.rows.size(); ++i) {
        if (Below(150) != 0) continue;
        result.rows[i].error = absl::InternalError("injected");
        expected_[plan.rows[i].sequence->id].failed = true;
      }
    }
    Receive(scheduler_.Commit(plan, &result));
    Receive(scheduler_.TakeEvents());
    scheduler_.CheckInvariants();
    const SchedulerStats stats = scheduler_.stats();
    ASSERT_EQ(stats.running + stats.waiting, static_cast<int>(live_.size()));
  }

  void CheckPlan(const StepPlan& plan) {
    int num_tokens = 0;
    std::set<RequestId> ids;
    for (size_t i = 0; i < plan.rows.size(); ++i) {
      const StepRow& row = plan.rows[i];
      const Sequence& sequence = *row.sequence;
      const int end = row.first_token + row.num_tokens;
      num_tokens += row.num_tokens;
      ASSERT_TRUE(ids.insert(sequence.id).second);
      ASSERT_EQ(paused_.count(sequence.id), 0u);
      ASSERT_EQ(row.first_token, sequence.num_computed);
      ASSERT_GE(row.num_tokens, 1);
      ASSERT_LE(row.num_tokens, options_.max_prefill_chunk);
      ASSERT_LE(end, static_cast<int>(sequence.tokens.size()));
      ASSERT_EQ(row.sample,
                end == static_cast<int>(sequence.tokens.size()) && sequence.limits.max_tokens > 0);
      if (static_cast<int>(i) < plan.num_decode_rows) {
        ASSERT_EQ(row.num_tokens, 1);
      }
      if (end < sequence.num_prompt_tokens) ++coverage_->chunked;
      if (sequence.want_prompt_logits) {
        ASSERT_EQ(sequence.num_cached_prompt, 0);
      }
    }
    ASSERT_EQ(plan.num_tokens, num_tokens);
    ASSERT_LE(num_tokens, options_.max_step_tokens);
    if (plan.num_decode_rows > 0) {
      ASSERT_LE(num_tokens - plan.num_decode_rows, options_.max_prefill_chunk);
    }
    ASSERT_LE(static_cast<int>(plan.rows.size()), options_.max_running);
  }

  void Receive(absl::Span<SequenceEvent> events) {
    for (SequenceEvent& event : events) {
      ASSERT_EQ(live_.count(event.id), 1u) << "an event after the end";
      Observed& observed = observed_[event.id];
      for (const SampledToken& token : event.prompt_logprobs) {
        observed.prompt_logprobs.push_back(token.id);
      }
      if (event.has_token) {
        ASSERT_TRUE(!expected_[event.id].cancelled) << "a token after the cancellation";
        observed.output.push_back(event.token.id);
        ASSERT_LE(observed.output.size(), expected_[event.id].output.size());
        ASSERT_EQ(event.token.id, expected_[event.id].output[observed.output.size() - 1]);
      }
      if (event.finish == FinishReason::kNone) continue;
      observed.finish = event.finish;
      ++observed.num_ends;
      ++coverage_->ends[event.finish];
      ASSERT_EQ(event.error.ok(),
                event.finish != FinishReason::kError && event.finish != FinishReason::kDeadline);
      live_.erase(event.id);
      paused_.erase(event.id);
    }
  }

  void CheckEnd() {
    ASSERT_TRUE(live_.empty());
    for (const auto& [id, expected] : expected_) {
      SCOPED_TRACE(id);
      const Observed& observed = observed_[id];
      ASSERT_EQ(observed.num_ends, 1);
      switch (observed.finish) {
        case FinishReason::kCancelled:
          ASSERT_TRUE(expected.cancelled);
          break;
        case FinishReason::kDeadline:
          ASSERT_TRUE(expected.has_deadline);
          break;
        case FinishReason::kError:
          ASSERT_TRUE(expected.failed);
          break;
        default:
          ASSERT_EQ(observed.finish, expected.finish);
          ASSERT_EQ(observed.output, expected.output);
          if (expected.want_prompt_logits) {
            ASSERT_EQ(observed.prompt_logprobs,
                      std::vector<TokenId>(expected.prompt.begin() + 1, expected.prompt.end()));
          }
      }
    }
    const SchedulerStats stats = scheduler_.stats();
    ASSERT_EQ(stats.blocks_held, 0);
    ASSERT_EQ(stats.waiting_prompt_tokens, 0);
    ASSERT_EQ(scheduler_.NextDeadline(), absl::InfiniteFuture());
    coverage_->preemptions += stats.preemptions;
    coverage_->hit_tokens += stats.prefix_hit_tokens;
  }

  std::mt19937 random_;
  Coverage* coverage_;
  ManualClock clock_;
  const SchedulerOptions options_;
  Scheduler scheduler_;
  SimulatedDevice device_;
  RequestId last_id_ = 0;
  std::map<RequestId, Expected> expected_;
  std::map<RequestId, Observed> observed_;
  std::set<RequestId> live_, paused_;
};

TEST(SchedulerSimulation, EveryRequestEndsOnceWithItsSoloOutputUnderChaos) {
  Coverage coverage;
  const int only = fakes::OnlySeed();
  fakes::SeedReport report("SchedulerSimulation.*");
  for (int seed = std::max(only, 0); seed < (only < 0 ? kSeeds : only + 1); ++seed) {
    report.Set(seed);
    Simulation(static_cast<uint32_t>(seed), &coverage).Run();
    ASSERT_FALSE(HasFailure()) << report.text();
  }
  if (only >= 0) return;
  // The chaos did reach what it is meant to test.
  EXPECT_GT(coverage.preemptions, 1000u);
  EXPECT_GT(coverage.hit_tokens, 1000u);
  EXPECT_GT(coverage.chunked, 1000u);
  EXPECT_GT(coverage.refused, 100u);
  for (const FinishReason reason :
       {FinishReason::kStop, FinishReason::kLength, FinishReason::kCancelled,
        FinishReason::kDeadline, FinishReason::kError}) {
    EXPECT_GT(coverage.ends[reason], 100) << static_cast<int>(reason);
  }
}

}  // namespace
}  // namespace trireme
