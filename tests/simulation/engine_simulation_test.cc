// A whole engine - mailbox, scheduler, KV blocks, streams - on one thread, with a virtual clock, a
// simulated device and clients that misbehave. Everything follows from the seed. Chaos first; then
// the faults stop and everything must finish.
//
//   TRIREME_SIMULATION_SEED=17 build/test/simulation_test    one seed again
//   TRIREME_SIMULATION_SEEDS=100000 ...                      more of them
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <numeric>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "runtime/engine/engine_loop.h"
#include "tests/fakes/seed_report.h"
#include "tests/simulation/simulated_client.h"
#include "tests/simulation/simulated_executor.h"

namespace trireme {
namespace {

constexpr int kDefaultSeeds = 2000;
constexpr int kShards = 4;
constexpr int kChaosRounds = 80;
constexpr int kRoundsToTell = 4;  // for a request, a resumption or an end to get through

struct Coverage {
  uint64_t preemptions = 0, prefix_hits = 0, refused = 0, hung_up = 0, lost = 0;
  uint64_t bounded_waits = 0;  // rounds of the chaos in which the oldest wait had a bound in reach
  uint64_t ends[6] = {};
};

class World {
 public:
  World(uint32_t seed, Coverage* coverage)
      : random_(seed), coverage_(coverage), options_(RandomOptions()) {
    auto executor = std::make_unique<SimulatedExecutor>(options_.scheduler, &clock_, &random_);
    executor_ = executor.get();
    loop_.emplace(options_, std::move(executor), &clock_, nullptr);
  }

  void Run() {
    for (int i = 0; i < kChaosRounds && !testing::Test::HasFailure(); ++i) {
      const int burst = Below(20) == 0 ? 15 : Below(3);
      for (int n = 0; n < burst; ++n) Submit();
      Disturb(i);
      Round();
      for (SimulatedClient& client : clients_) ReadByHabit(&client);
      clock_.Advance(absl::Milliseconds(Below(15)));
    }
    if (!testing::Test::HasFailure()) Quieten();
    if (!testing::Test::HasFailure() && !lost_) CheckQueueIsWhole();
    if (testing::Test::HasFailure()) return;  // the engine may be beyond a clean end
    CheckEnd();
  }

 private:
  int Below(int n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }

  EngineOptions RandomOptions() {
    EngineOptions options;
    options.scheduler = {.block_size = 1 + Below(4),
                         .num_blocks = 3 + Below(24),
                         .max_context_tokens = 4 + Below(60),
                         .max_running = 1 + Below(8),
                         .max_step_tokens = 1 + Below(24),
                         .max_prefill_chunk = 1 + Below(12),
                         .max_waiting_requests = 3 + Below(30),
                         .max_waiting_prompt_tokens = 20 + Below(400),
                         .prefix_cache = Below(5) != 0};
    options.limits = {.vocab_size = 1000, .max_context_tokens = 64, .eos_ids = {4}};
    options.max_inbox = static_cast<size_t>(4 + Below(40));
    options.max_unread_tokens = 1 + Below(6);
    options.slow_reader_timeout = absl::Milliseconds(50 + Below(400));
    options.seed = 1;
    return options;
  }

  GenerateRequest RandomRequest() {
    GenerateRequest request;
    const int context = loop_->options().limits.max_context_tokens;
    const int start = Below(3);  // prompts share prefixes
    const int length = 1 + Below(context);
    for (int i = 0; i < length; ++i) request.prompt.push_back(start * 100 + i);
    request.max_tokens = 1 + Below(20);
    request.max_tokens = std::min(*request.max_tokens, std::max(1, context - length));
    request.min_tokens = Below(std::min(3, *request.max_tokens + 1));
    request.ignore_eos = Below(2) == 0;
    if (Below(3) == 0) request.stop_token_ids = {Below(kSimulatedVocab)};
    request.tenant = std::string(1, static_cast<char>('a' + Below(3)));
    request.priority = Below(4) == 0 ? Below(3) : 0;
    if (Below(8) == 0) request.deadline = clock_.Now() + absl::Milliseconds(Below(300));
    return request;
  }

  void Submit() {
    const GenerateRequest request = RandomRequest();
    absl::StatusOr<RequestStream> stream = loop_->Submit(request);
    if (!stream.ok()) {
      ++coverage_->refused;
      const std::string code = ErrorCode(stream.status());
      EXPECT_TRUE(code == "overloaded" || code == "context_length_exceeded" ||
                  (lost_ && code == "device_lost"))
          << stream.status();
      return;
    }
    const auto habit = static_cast<Habit>(Below(5));
    clients_.emplace_back(request, loop_->options(), habit, Below(10));
    clients_.back().stream = *std::move(stream);
  }

  void Disturb(int round) {
    if (round == kChaosRounds / 2 && Below(20) == 0) {
      executor_->lose_device = lost_ = true;
      ++coverage_->lost;
    }
    const bool storm = Below(25) == 0;
    for (SimulatedClient& client : clients_) {
      if (!client.waiting() || Below(storm ? 2 : 60) != 0) continue;
      left_.emplace_back(client.stream->id(), 0);
      if (Below(2) == 0) {
        client.Cancel();
      } else {
        client.HangUp();
      }
    }
  }

  void ReadByHabit(SimulatedClient* client) {
    if (!client->stream) return;
    if (client->habit == Habit::kDeaf || (client->habit == Habit::kLazy && Below(6) != 0)) return;
    Read(client);
  }

  void Read(SimulatedClient* client) {
    client->Read(lost_ || executor_->failed.contains(client->stream->id()));
    if (!client->stream) ++coverage_->hung_up;
  }

  // The rules that hold after every step.
  void Round() {
    ASSERT_TRUE(loop_->Round(/*may_sleep=*/false));
    loop_->CheckInvariants();  // blocks conserved, none shared across tenants ...
    const EngineStats stats = loop_->mailbox().stats();
    const uint64_t ended =
        stats.finished_stop + stats.finished_length + stats.cancelled + stats.failed;
    ASSERT_EQ(stats.submitted,
              ended + static_cast<uint64_t>(stats.scheduler.running + stats.scheduler.waiting))
        << "a request is lost or has ended twice";
    if (lost_) return;
    ASSERT_LE(executor_->num_open(),
              static_cast<size_t>(stats.scheduler.running + stats.scheduler.waiting));
    CheckOldest();
    // Nothing is computed for those who have left, from the second step on.
    std::erase_if(left_, [this](const auto& one) { return !executor_->is_open(one.first); });
    for (auto& [id, rounds] : left_) ASSERT_LE(++rounds, 1) << "cancelled, but goes on";
  }

  // The most senior request is served in every step, or waits for what was running before it became
  // that, as nothing junior is taken up before it. So, as long as its client reads, it ends within
  // its own steps and those of what can run at once; and then the next one is the most senior.
  void CheckOldest() {
    const SimulatedClient* oldest = nullptr;
    std::vector<int> others;
    for (const SimulatedClient& client : clients_) {
      if (!client.waiting()) continue;
      others.push_back(client.max_steps);
      if (oldest == nullptr || client.priority < oldest->priority) oldest = &client;
    }
    const bool reads =
        oldest != nullptr &&
        (!executor_->faults || (oldest->habit != Habit::kDeaf && oldest->habit != Habit::kLazy));
    if (!reads || oldest != oldest_) {
      oldest_ = reads ? oldest : nullptr;
      oldest_rounds_ = 0;
      std::sort(others.rbegin(), others.rend());
      others.resize(std::min<size_t>(others.size(), options_.scheduler.max_running));
      oldest_limit_ = kRoundsToTell + (reads ? oldest->max_steps : 0) +
                      std::accumulate(others.begin(), others.end(), 0);
      return;
    }
    ASSERT_LE(++oldest_rounds_, oldest_limit_) << "the oldest request waits too long";
    if (executor_->faults && oldest_limit_ < kChaosRounds) ++coverage_->bounded_waits;
  }

  // Every step computes a token of the most senior request, so all of them end.
  void Quieten() {
    executor_->faults = false;
    int64_t rounds_left = 100 + int64_t{8} * 64 * static_cast<int64_t>(clients_.size());
    const auto busy = [this] {
      const SchedulerStats stats = loop_->mailbox().stats().scheduler;
      return stats.running + stats.waiting > 0;
    };
    do {
      ASSERT_GT(rounds_left--, 0) << "no progress";
      Round();
      for (SimulatedClient& client : clients_) {
        if (client.stream) Read(&client);
      }
    } while (busy() && !testing::Test::HasFailure());
  }

  // Nothing still holds a place in the queue: it takes as much as it did when it was new.
  void CheckQueueIsWhole() {
    std::vector<RequestStream> streams;
    const size_t room = std::min<size_t>(
        options_.max_inbox, std::min<size_t>(options_.scheduler.max_waiting_requests,
                                             options_.scheduler.max_waiting_prompt_tokens));
    for (size_t i = 0; i < room; ++i) {
      absl::StatusOr<RequestStream> stream =
          loop_->Submit({.prompt = {1}, .max_tokens = 1, .ignore_eos = true});
      ASSERT_TRUE(stream.ok()) << stream.status();
      streams.push_back(*std::move(stream));
    }
  }

  void CheckEnd() {
    loop_->mailbox().Close();
    while (loop_->Round(/*may_sleep=*/false)) {
    }
    for (const SimulatedClient& client : clients_) {
      ASSERT_FALSE(client.waiting()) << "a request without an end";
      ++coverage_->ends[static_cast<int>(client.finish)];
    }
    const EngineStats stats = loop_->mailbox().stats();
    EXPECT_EQ(stats.scheduler.blocks_held, 0);
    if (!lost_) {
      EXPECT_EQ(executor_->num_open(), 0u);
    }
    coverage_->preemptions += stats.scheduler.preemptions;
    coverage_->prefix_hits += stats.scheduler.prefix_hit_tokens;
  }

  std::mt19937 random_;
  Coverage* const coverage_;
  const EngineOptions options_;
  ManualClock clock_;
  SimulatedExecutor* executor_ = nullptr;
  std::optional<internal::EngineLoop> loop_;
  std::deque<SimulatedClient> clients_;  // as they came
  bool lost_ = false;
  const SimulatedClient* oldest_ = nullptr;  // the most senior that has no end yet, and reads
  int oldest_rounds_ = 0, oldest_limit_ = 0;
  std::vector<std::pair<RequestId, int>> left_;  // with the rounds since
};

class EngineSimulation : public testing::TestWithParam<int> {};

TEST_P(EngineSimulation, EveryRequestEndsOnceAsItWouldAlone) {
  const int only = fakes::OnlySeed();
  const int seeds = fakes::EnvironmentInt("TRIREME_SIMULATION_SEEDS", kDefaultSeeds);
  fakes::SeedReport report("*EveryRequestEndsOnceAsItWouldAlone/0");
  Coverage coverage;
  for (int seed = GetParam(); seed < seeds; seed += kShards) {
    const int chosen = only >= 0 ? only : seed;
    report.Set(chosen);
    World(static_cast<uint32_t>(chosen), &coverage).Run();
    ASSERT_FALSE(HasFailure()) << report.text();
    if (only >= 0) return;
  }
  if (seeds < kDefaultSeeds) return;
  // The chaos did reach what it is meant to test.
  EXPECT_GT(coverage.preemptions, 500u);
  EXPECT_GT(coverage.prefix_hits, 500u);
  EXPECT_GT(coverage.refused, 500u);
  EXPECT_GT(coverage.hung_up, 100u);
  EXPECT_GT(coverage.lost, 5u);
  EXPECT_GT(coverage.bounded_waits, 500u);
  for (const FinishReason reason :
       {FinishReason::kStop, FinishReason::kLength, FinishReason::kCancelled,
        FinishReason::kDeadline, FinishReason::kError}) {
    EXPECT_GT(coverage.ends[static_cast<int>(reason)], 100u) << static_cast<int>(reason);
  }
}

INSTANTIATE_TEST_SUITE_P(Shard, EngineSimulation, testing::Range(0, kShards));

}  // namespace
}  // namespace trireme
