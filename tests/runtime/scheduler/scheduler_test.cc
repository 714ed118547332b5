#include "runtime/scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "runtime/base/status.h"
#include "tests/fakes/simulated_device.h"

namespace trireme {
namespace {

struct Request {
  RequestId id = 1;
  int prompt = 4;  // tokens first_token, first_token + 1, ...
  int first_token = 1000;
  int max_tokens = 4;
  int priority = 0;
  std::string tenant = "t";
  absl::Time deadline = absl::InfiniteFuture();
  std::vector<TokenId> stop_ids = {};
  int min_tokens = 0;
  bool want_prompt_logits = false;
};

std::unique_ptr<Sequence> MakeSequence(const Request& request) {
  auto sequence = std::make_unique<Sequence>();
  sequence->id = request.id;
  sequence->tenant = request.tenant;
  sequence->priority = request.priority;
  sequence->deadline = request.deadline;
  sequence->tokens.resize(request.prompt);
  std::iota(sequence->tokens.begin(), sequence->tokens.end(), request.first_token);
  sequence->num_prompt_tokens = request.prompt;
  sequence->limits = {request.max_tokens, request.min_tokens, request.stop_ids};
  sequence->want_prompt_logits = request.want_prompt_logits;
  return sequence;
}

class SchedulerTest : public testing::Test {
 protected:
  SchedulerTest() {
    options_.block_size = 4;
    options_.num_blocks = 64;
    options_.max_context_tokens = 200;
    options_.max_running = 8;
    options_.max_step_tokens = 32;
    options_.max_prefill_chunk = 16;
  }

  Scheduler& scheduler() {
    if (!scheduler_) {
      scheduler_ = std::make_unique<Scheduler>(options_, &clock_);
      device_ = std::make_unique<SimulatedDevice>(options_.num_blocks, options_.block_size);
    }
    return *scheduler_;
  }
  absl::Status Admit(const Request& request) { return scheduler().Admit(MakeSequence(request)); }
  void MustAdmit(const Request& request) {
    const absl::Status status = Admit(request);
    ASSERT_TRUE(status.ok()) << status;
  }
  StepPlan Plan() {
    StepPlan plan = scheduler().Plan();
    scheduler().CheckInvariants();
    return plan;
  }
  absl::Span<SequenceEvent> CommitOf(const StepPlan& plan) {
    device_->Run(plan, &result_);
    return scheduler().Commit(plan, &result_);
  }
  void Commit(const StepPlan& plan) { Receive(CommitOf(plan)); }
  void Receive(absl::Span<SequenceEvent> events) {
    for (SequenceEvent& event : events) {
      if (event.has_token) output_[event.id].push_back(event.token.id);
      if (event.finish != FinishReason::kNone) finish_[event.id] = event.finish;
      last_[event.id] = std::move(event);
    }
    scheduler().CheckInvariants();
    ASSERT_EQ(device_->num_mismatches(), 0);
  }
  void Step() {
    const StepPlan plan = Plan();
    Receive(scheduler().TakeEvents());
    Commit(plan);
  }
  // Steps until nothing is left to do; returns how many there were.
  int RunAll() {
    int steps = 0;
    for (; scheduler().HasWork() && steps < 10000; ++steps) Step();
    EXPECT_LT(steps, 10000);
    return steps;
  }
  static std::vector<RequestId> IdsOf(const StepPlan& plan) {
    std::vector<RequestId> ids;
    for (const StepRow& row : plan.rows) ids.push_back(row.sequence->id);
    return ids;
  }
  static std::vector<TokenId> Solo(const Request& request, int max_context = 200) {
    return SoloRun(*MakeSequence(request), max_context).first;
  }

  SchedulerOptions options_;
  ManualClock clock_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<SimulatedDevice> device_;
  StepResult result_;
  std::map<RequestId, std::vector<TokenId>> output_;
  std::map<RequestId, FinishReason> finish_;
  std::map<RequestId, SequenceEvent> last_;
};

using Ids = std::vector<RequestId>;

TEST_F(SchedulerTest, NothingToDoIsAnEmptyPlan) {
  EXPECT_FALSE(scheduler().HasWork());
  const StepPlan plan = Plan();
  EXPECT_TRUE(plan.rows.empty());
  EXPECT_EQ(plan.step, 0u);
  EXPECT_TRUE(scheduler().Commit(plan, &result_).empty());
  EXPECT_TRUE(Plan().rows.empty());  // an empty plan is not outstanding
}

TEST_F(SchedulerTest, APromptIsComputedInChunksAndSampledAtItsEnd) {
  MustAdmit({.prompt = 40});
  std::vector<std::pair<int, int>> chunks;
  for (int i = 0; i < 3; ++i) {
    const StepPlan plan = Plan();
    ASSERT_EQ(plan.rows.size(), 1u);
    EXPECT_EQ(plan.step, static_cast<uint64_t>(i + 1));
    EXPECT_EQ(plan.num_decode_rows, 0);
    EXPECT_EQ(plan.rows[0].sample, i == 2);
    chunks.emplace_back(plan.rows[0].first_token, plan.rows[0].num_tokens);
    Commit(plan);
  }
  EXPECT_EQ(chunks, (std::vector<std::pair<int, int>>{{0, 16}, {16, 16}, {32, 8}}));
  EXPECT_EQ(output_[1].size(), 1u);
}

TEST_F(SchedulerTest, DecodeRowsComeFirstAndPrefillTakesWhatIsLeftOfTheStep) {
  options_.max_step_tokens = 10;
  MustAdmit({.id = 1, .max_tokens = 50});
  MustAdmit({.id = 2, .first_token = 2000, .max_tokens = 50});
  Step();  // both prefills fit: 8 tokens
  MustAdmit({.id = 3, .prompt = 30, .first_token = 3000});
  const StepPlan plan = Plan();
  EXPECT_EQ(IdsOf(plan), (Ids{1, 2, 3}));
  EXPECT_EQ(plan.num_decode_rows, 2);
  EXPECT_EQ(plan.rows[2].num_tokens, 8);
  EXPECT_EQ(plan.num_tokens, 10);
  Commit(plan);
}

TEST_F(SchedulerTest, PromptsShareOneChunkBesideRunningStreamsAndTheWholeStepWithout) {
  MustAdmit({.id = 1, .prompt = 20, .max_tokens = 50});
  MustAdmit({.id = 2, .prompt = 20, .first_token = 2000, .max_tokens = 50});
  StepPlan plan = Plan();  // nobody waits for a next token
  EXPECT_EQ(plan.num_tokens, 32);
  Commit(plan);
  Step();  // the rest of both: 8 tokens
  MustAdmit({.id = 3, .prompt = 12, .first_token = 3000});
  MustAdmit({.id = 4, .prompt = 12, .first_token = 4000});
  plan = Plan();
  EXPECT_EQ(IdsOf(plan), (Ids{1, 2, 3, 4}));
  EXPECT_EQ(plan.num_decode_rows, 2);
  EXPECT_EQ(plan.rows[2].num_tokens, 12);
  EXPECT_EQ(plan.rows[3].num_tokens, 4);  // of the chunk of 16
  Commit(plan);
}

TEST_F(SchedulerTest, ALongPrefillDoesNotStopDecoding) {
  MustAdmit({.id = 1, .max_tokens = 100});
  Step();
  MustAdmit({.id = 2, .prompt = 150, .first_token = 2000});
  for (int i = 0; i < 8; ++i) {
    const size_t before = output_[1].size();
    Step();
    EXPECT_EQ(output_[1].size(), before + 1);
  }
}

TEST_F(SchedulerTest, OutputEqualsTheSoloRun) {
  for (RequestId id = 1; id <= 12; ++id) {
    MustAdmit({.id = id, .prompt = static_cast<int>(3 * id), .max_tokens = 20});
  }
  RunAll();
  for (RequestId id = 1; id <= 12; ++id) {
    EXPECT_EQ(output_[id], Solo({.id = id, .prompt = static_cast<int>(3 * id), .max_tokens = 20}));
    EXPECT_EQ(finish_[id], FinishReason::kLength);
  }
  EXPECT_EQ(scheduler().stats().blocks_held, 0);
  EXPECT_EQ(scheduler().stats().generated_tokens, 12 * 20u);
}

TEST_F(SchedulerTest, WaitingIsServedByPriorityThenInOrderOfArrival) {
  options_.max_running = 1;
  MustAdmit({.id = 1, .max_tokens = 1});
  MustAdmit({.id = 2, .max_tokens = 1, .priority = 1});
  MustAdmit({.id = 3, .max_tokens = 1, .priority = -5});
  MustAdmit({.id = 4, .max_tokens = 1});
  MustAdmit({.id = 5, .max_tokens = 1, .priority = -5});
  Ids order;
  while (scheduler().HasWork()) {
    const StepPlan plan = Plan();
    for (const RequestId id : IdsOf(plan)) order.push_back(id);
    Commit(plan);
  }
  EXPECT_EQ(order, (Ids{3, 5, 1, 4, 2}));
}

TEST_F(SchedulerTest, AdmitRefusesWhatCanNeverFitAndKeepsNothing) {
  options_.max_context_tokens = 20;
  absl::Status status = Admit({.prompt = 20});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ErrorCode(status), "context_length_exceeded");
  EXPECT_EQ(ErrorParam(status), "prompt");
  EXPECT_FALSE(scheduler().HasWork());
  MustAdmit({.id = 1, .prompt = 19});
  MustAdmit({.id = 2, .prompt = 20, .max_tokens = 0});  // nothing to generate: fits exactly
  EXPECT_FALSE(Admit({.id = 3, .prompt = 21, .max_tokens = 0}).ok());
  RunAll();
  EXPECT_EQ(output_[1].size(), 1u);
  EXPECT_EQ(finish_[1], FinishReason::kLength);
}

TEST_F(SchedulerTest, TheKvBudgetLimitsTheContextOfALoneSequence) {
  options_.num_blocks = 5;
  EXPECT_EQ(ErrorCode(Admit({.prompt = 20})), "context_length_exceeded");
  MustAdmit({.prompt = 3, .max_tokens = 1000});
  RunAll();
  EXPECT_EQ(finish_[1], FinishReason::kLength);
  EXPECT_EQ(output_[1].size(), 17u);
}

TEST_F(SchedulerTest, TheQueueIsBoundedByRequestsAndByPromptTokens) {
  options_.max_waiting_requests = 3;
  options_.max_waiting_prompt_tokens = 50;
  MustAdmit({.id = 1, .prompt = 60});  // alone: let in although it exceeds the bound
  absl::Status status = Admit({.id = 2, .prompt = 1});
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrorCode(status), "overloaded");
  Step();
  MustAdmit({.id = 2, .prompt = 10});
  MustAdmit({.id = 3, .prompt = 10});
  MustAdmit({.id = 4, .prompt = 10});
  EXPECT_EQ(Admit({.id = 5, .prompt = 1}).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(scheduler().stats().waiting_prompt_tokens, 30);
  scheduler().Cancel(2);
  MustAdmit({.id = 6, .prompt = 1});
}

TEST_F(SchedulerTest, StopIdsEndASequenceOnceMinTokensAreThere) {
  const std::vector<TokenId> solo = Solo({.max_tokens = 30});
  const TokenId stop = solo[0];
  MustAdmit({.id = 1, .max_tokens = 30, .stop_ids = {stop}});
  RunAll();
  EXPECT_EQ(output_[1], (std::vector<TokenId>{stop}));  // the stop id itself is in the last event
  EXPECT_EQ(finish_[1], FinishReason::kStop);
  MustAdmit({.id = 2, .max_tokens = 3, .stop_ids = {solo[0], solo[1], solo[2]}, .min_tokens = 2});
  RunAll();
  EXPECT_EQ(output_[2].size(), 3u);
  EXPECT_EQ(finish_[2], FinishReason::kStop);  // the third may stop, and stop goes before length
}

TEST_F(SchedulerTest, MaxTokensZeroComputesThePromptAndSamplesNothing) {
  MustAdmit({.prompt = 20, .max_tokens = 0, .want_prompt_logits = true});
  const StepPlan first = Plan();
  EXPECT_FALSE(first.rows[0].sample);
  Commit(first);
  EXPECT_EQ(last_[1].prompt_logprobs.size(), 16u);
  const StepPlan second = Plan();
  EXPECT_FALSE(second.rows[0].sample);
  Commit(second);
  EXPECT_EQ(last_[1].prompt_logprobs.size(), 3u);
  EXPECT_EQ(finish_[1], FinishReason::kLength);
  EXPECT_FALSE(last_[1].has_token);
}

TEST_F(SchedulerTest, ARepeatedPromptIsReadFromTheCacheButForItsLastToken) {
  MustAdmit({.id = 1, .prompt = 16, .max_tokens = 1});
  RunAll();
  EXPECT_EQ(last_[1].num_cached_prompt_tokens, 0);
  MustAdmit({.id = 2, .prompt = 16, .max_tokens = 1});
  const StepPlan plan = Plan();
  EXPECT_EQ(plan.rows[0].first_token, 12);  // whole blocks, not the one with the last token
  Commit(plan);
  EXPECT_EQ(last_[2].num_cached_prompt_tokens, 12);
  EXPECT_EQ(output_[1], output_[2]);
  EXPECT_EQ(scheduler().stats().prefix_hit_tokens, 12u);
  EXPECT_EQ(scheduler().stats().prefix_queries_tokens, 32u);
}

TEST_F(SchedulerTest, GeneratedTokensAreCachedForTheNextTurn) {
  MustAdmit({.id = 1, .prompt = 6, .max_tokens = 11});
  RunAll();
  auto next_turn = MakeSequence({.id = 2, .prompt = 6});
  next_turn->tokens.insert(next_turn->tokens.end(), output_[1].begin(), output_[1].end());
  next_turn->num_prompt_tokens = 17;
  ASSERT_TRUE(scheduler().Admit(std::move(next_turn)).ok());
  Step();
  EXPECT_EQ(last_[2].num_cached_prompt_tokens, 16);
}

TEST_F(SchedulerTest, TenantsDoNotShareCachedBlocks) {
  MustAdmit({.id = 1, .prompt = 16, .max_tokens = 1, .tenant = "a"});
  RunAll();
  MustAdmit({.id = 2, .prompt = 16, .max_tokens = 1, .tenant = "b"});
  MustAdmit({.id = 3, .prompt = 16, .max_tokens = 1, .tenant = ""});
  RunAll();
  EXPECT_EQ(scheduler().stats().prefix_hit_tokens, 0u);
}

TEST_F(SchedulerTest, PromptLogitsAndADisabledCacheReadNothingFromIt) {
  MustAdmit({.id = 1, .prompt = 16, .max_tokens = 1});
  RunAll();
  MustAdmit({.id = 2, .prompt = 16, .max_tokens = 1, .want_prompt_logits = true});
  RunAll();
  EXPECT_EQ(scheduler().stats().prefix_hit_tokens, 0u);

  options_.prefix_cache = false;
  scheduler_.reset();
  MustAdmit({.id = 3, .prompt = 16, .max_tokens = 1});
  RunAll();
  MustAdmit({.id = 4, .prompt = 16, .max_tokens = 1});
  RunAll();
  EXPECT_EQ(scheduler().stats().prefix_hit_tokens, 0u);
  EXPECT_EQ(scheduler().stats().blocks_cached, 0);
}

TEST_F(SchedulerTest, WhenBlocksRunShortTheLatestArrivalIsRecomputedWithTheSameTokens) {
  options_.num_blocks = 13;
  for (RequestId id = 1; id <= 3; ++id) {
    MustAdmit({.id = id, .prompt = 9, .first_token = static_cast<int>(id * 100), .max_tokens = 20});
  }
  RunAll();
  EXPECT_EQ(last_[1].num_preemptions, 0);
  EXPECT_GT(last_[3].num_preemptions, 0);
  EXPECT_GT(scheduler().stats().preemptions, 0u);
  for (RequestId id = 1; id <= 3; ++id) {
    EXPECT_EQ(
        output_[id],
        Solo({.id = id, .prompt = 9, .first_token = static_cast<int>(id * 100), .max_tokens = 20}));
  }
}

TEST_F(SchedulerTest, APreemptedSequenceIsTakenUpBeforeLaterArrivals) {
  options_.num_blocks = 11;
  MustAdmit({.id = 1, .prompt = 9, .max_tokens = 24});
  MustAdmit({.id = 2, .prompt = 9, .first_token = 2000, .max_tokens = 24});
  while (scheduler().stats().preemptions == 0) Step();
  MustAdmit({.id = 3, .prompt = 1, .first_token = 3000, .max_tokens = 1});  // would fit at once
  Ids started;
  while (scheduler().HasWork()) {
    const StepPlan plan = Plan();
    for (const StepRow& row : plan.rows) {
      if (row.sequence->id != 1 && started.size() < 2 &&
          (started.empty() || started.back() != row.sequence->id)) {
        started.push_back(row.sequence->id);
      }
    }
    Commit(plan);
  }
  EXPECT_EQ(started, (Ids{2, 3}));
}

TEST_F(SchedulerTest, WhatIsTakenUpHasRoomForItsWholePromptSoThatItIsNotPreemptedAtOnce) {
  options_.num_blocks = 20;
  MustAdmit({.id = 1, .prompt = 40, .max_tokens = 8});  // needs 10 blocks, then 12
  MustAdmit(
      {.id = 2, .prompt = 40, .first_token = 2000, .max_tokens = 4});  // its first chunk would fit
  EXPECT_EQ(IdsOf(Plan()), (Ids{1}));
  scheduler().FailAll(absl::UnavailableError("end of test"));
  scheduler().TakeEvents();

  MustAdmit({.id = 3, .prompt = 40, .max_tokens = 8});
  MustAdmit({.id = 4, .prompt = 40, .first_token = 2000, .max_tokens = 4});
  RunAll();
  EXPECT_EQ(scheduler().stats().preemptions, 0u);
}

TEST_F(SchedulerTest, ALowerNumberPreemptsAHigherOneOnlyIfThatMakesItFit) {
  options_.num_blocks = 10;
  MustAdmit({.id = 1, .prompt = 12, .max_tokens = 4, .priority = -5});
  MustAdmit({.id = 2, .prompt = 12, .first_token = 2000, .max_tokens = 20});
  Step();
  MustAdmit({.id = 3, .prompt = 36, .first_token = 3000, .priority = -5});  // not beside 1
  MustAdmit({.id = 4, .prompt = 16, .first_token = 4000, .max_tokens = 4, .priority = -4});
  const StepPlan plan = Plan();
  EXPECT_EQ(IdsOf(plan), (Ids{1, 2}));
  Commit(plan);
  scheduler().Cancel(3);
  Receive(scheduler().TakeEvents());
  const StepPlan next = Plan();  // 4 takes the place of 2
  EXPECT_EQ(IdsOf(next), (Ids{1, 4}));
  Commit(next);
  RunAll();
  EXPECT_EQ(last_[2].num_preemptions, 1);
  EXPECT_EQ(output_[2], Solo({.id = 2, .prompt = 12, .first_token = 2000, .max_tokens = 20}));
}

TEST_F(SchedulerTest, ALowerNumberTakesTheSlotOfAHigherOne) {
  options_.max_running = 2;
  MustAdmit({.id = 1, .max_tokens = 50});
  MustAdmit({.id = 2, .max_tokens = 50});
  Step();
  MustAdmit({.id = 3, .priority = -1});
  MustAdmit({.id = 4});  // an equal has to wait
  EXPECT_EQ(IdsOf(Plan()), (Ids{1, 3}));
}

TEST_F(SchedulerTest, EqualsDoNotPushEachOtherOutAndBack) {
  options_.num_blocks = 12;
  for (RequestId id = 1; id <= 6; ++id) {
    MustAdmit(
        {.id = id, .prompt = 10, .first_token = static_cast<int>(id * 100), .max_tokens = 24});
  }
  RunAll();
  // Three fit at the start and one at the end: each is pushed out at most once.
  EXPECT_LE(scheduler().stats().preemptions, 6u);
  EXPECT_EQ(finish_.size(), 6u);
}

TEST_F(SchedulerTest, CancellingAWaitingSequenceEndsItAtOnceAndOnce) {
  options_.max_running = 1;
  MustAdmit({.id = 1});
  MustAdmit({.id = 2});
  Step();
  scheduler().Cancel(2);
  scheduler().Cancel(2);
  scheduler().Cancel(99);
  const auto events = scheduler().TakeEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].id, 2u);
  EXPECT_EQ(events[0].finish, FinishReason::kCancelled);
  EXPECT_TRUE(events[0].error.ok());
  EXPECT_EQ(scheduler().stats().waiting, 0);
}

TEST_F(SchedulerTest, CancellingBetweenStepsReleasesBlocksAtOnce) {
  MustAdmit({.id = 1, .prompt = 10});
  Step();
  EXPECT_EQ(scheduler().stats().blocks_held, 3);
  scheduler().Cancel(1);
  EXPECT_EQ(scheduler().stats().blocks_held, 0);
  EXPECT_EQ(scheduler().TakeEvents().size(), 1u);
  EXPECT_FALSE(scheduler().HasWork());
}

TEST_F(SchedulerTest, CancellingDuringAStepKeepsBlocksUntilItsCommitAndYieldsNoToken) {
  MustAdmit({.id = 1, .prompt = 10});
  const StepPlan plan = Plan();
  scheduler().Cancel(1);
  scheduler().Cancel(1);
  EXPECT_TRUE(scheduler().TakeEvents().empty());
  EXPECT_EQ(scheduler().stats().blocks_held, 3);  // the device still writes to them
  Commit(plan);
  EXPECT_EQ(finish_[1], FinishReason::kCancelled);
  EXPECT_TRUE(output_[1].empty());
  EXPECT_EQ(scheduler().stats().blocks_held, 0);
}

TEST_F(SchedulerTest, ADeadlineExpiresInTheQueueWithoutAnyPrefill) {
  options_.max_running = 1;
  MustAdmit({.id = 1, .max_tokens = 50});
  MustAdmit({.id = 2, .deadline = clock_.Now() + absl::Seconds(1)});
  EXPECT_EQ(scheduler().NextDeadline(), clock_.Now() + absl::Seconds(1));
  Step();
  clock_.Advance(absl::Seconds(1));
  const int64_t before = device_->num_computed();
  Step();
  EXPECT_EQ(finish_[2], FinishReason::kDeadline);
  EXPECT_EQ(last_[2].error.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(device_->num_computed(), before + 1);
  EXPECT_EQ(scheduler().NextDeadline(), absl::InfiniteFuture());
}

TEST_F(SchedulerTest, ADeadlineExpiresWhileRunningOrPaused) {
  MustAdmit({.id = 1, .max_tokens = 50, .deadline = clock_.Now() + absl::Seconds(1)});
  MustAdmit({.id = 2, .max_tokens = 50, .deadline = clock_.Now() + absl::Seconds(2)});
  Step();
  scheduler().SetPaused(2, true);
  clock_.Advance(absl::Seconds(1));
  Step();
  EXPECT_EQ(finish_[1], FinishReason::kDeadline);
  EXPECT_FALSE(scheduler().HasWork());
  clock_.Advance(absl::Seconds(1));
  Step();
  EXPECT_EQ(finish_[2], FinishReason::kDeadline);
  EXPECT_EQ(scheduler().stats().blocks_held, 0);
}

TEST_F(SchedulerTest, APausedSequenceGetsNoRowsAndGoesOnLater) {
  MustAdmit({.id = 1, .max_tokens = 10});
  Step();
  const StepPlan plan = Plan();
  scheduler().SetPaused(1, true);
  Commit(plan);
  EXPECT_EQ(output_[1].size(), 2u);  // what was under way still arrives
  EXPECT_FALSE(scheduler().HasWork());
  EXPECT_TRUE(Plan().rows.empty());
  EXPECT_EQ(scheduler().stats().blocks_held, 2);
  scheduler().SetPaused(1, false);
  RunAll();
  EXPECT_EQ(output_[1], Solo({.max_tokens = 10}));
}

TEST_F(SchedulerTest, APausedSequenceDoesNotKeepOthersFromTheBlocks) {
  options_.num_blocks = 8;
  MustAdmit({.id = 1, .prompt = 20, .max_tokens = 8});
  Step();
  Step();
  scheduler().SetPaused(1, true);
  MustAdmit({.id = 2, .prompt = 20, .first_token = 2000, .max_tokens = 8});
  RunAll();
  EXPECT_EQ(finish_.count(2), 1u);
  scheduler().SetPaused(1, false);
  RunAll();
  EXPECT_EQ(last_[1].num_preemptions, 1);
  EXPECT_EQ(output_[1], Solo({.prompt = 20, .max_tokens = 8}));
}

TEST_F(SchedulerTest, PausedSequencesGiveWayBeforeRunningOnesOfAHigherNumber) {
  options_.max_running = 2;
  MustAdmit({.id = 1, .max_tokens = 50, .priority = -1});
  MustAdmit({.id = 2, .first_token = 2000, .max_tokens = 50});
  Step();
  scheduler().SetPaused(1, true);
  MustAdmit({.id = 3, .first_token = 3000, .priority = -1});
  EXPECT_EQ(IdsOf(Plan()), (Ids{2, 3}));
}

TEST_F(SchedulerTest, PausingInTheQueueLetsOthersPass) {
  options_.max_running = 1;
  MustAdmit({.id = 1, .max_tokens = 1});
  MustAdmit({.id = 2, .max_tokens = 1});
  scheduler().SetPaused(1, true);
  scheduler().SetPaused(1, true);
  EXPECT_EQ(scheduler().stats().waiting, 2);
  EXPECT_EQ(IdsOf(Plan()), (Ids{2}));
}

TEST_F(SchedulerTest, AFailedRowEndsItsSequenceAloneAndItsBlocksAreNotCached) {
  MustAdmit({.id = 1, .prompt = 20, .max_tokens = 8});
  MustAdmit({.id = 2, .prompt = 12, .first_token = 2000, .max_tokens = 8});
  Step();
  const StepPlan plan = Plan();
  StepResult result;
  device_->Run(plan, &result);
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    if (plan.rows[i].sequence->id == 1) result.rows[i].error = absl::InternalError("NaN");
  }
  Receive(scheduler().Commit(plan, &result));
  EXPECT_EQ(finish_[1], FinishReason::kError);
  EXPECT_EQ(last_[1].error, absl::InternalError("NaN"));
  RunAll();
  EXPECT_EQ(output_[2], Solo({.prompt = 12, .first_token = 2000, .max_tokens = 8}));
  MustAdmit({.id = 3, .prompt = 20, .max_tokens = 8});
  RunAll();
  EXPECT_EQ(last_[3].num_cached_prompt_tokens, 0);
}

TEST_F(SchedulerTest, FailAllEndsEverythingAndAbandonsThePlan) {
  options_.max_running = 2;
  for (RequestId id = 1; id <= 4; ++id) MustAdmit({.id = id});
  Plan();
  scheduler().Cancel(2);
  scheduler().FailAll(absl::UnavailableError("device lost"));
  const auto events = scheduler().TakeEvents();
  ASSERT_EQ(events.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(events[i].id, i + 1);
    EXPECT_EQ(events[i].finish, i == 1 ? FinishReason::kCancelled : FinishReason::kError);
  }
  EXPECT_EQ(events[0].error, absl::UnavailableError("device lost"));
  scheduler().CheckInvariants();
  EXPECT_EQ(scheduler().stats().blocks_held, 0);
  EXPECT_EQ(scheduler().stats().blocks_cached, 0);
  MustAdmit({.id = 5});
  RunAll();
  EXPECT_EQ(finish_[5], FinishReason::kLength);
}

TEST_F(SchedulerTest, SamplesAndLogprobsOfARecomputedPromptAreDeliveredOnce) {
  options_.num_blocks = 8;
  MustAdmit({.id = 1, .prompt = 9, .max_tokens = 20});
  MustAdmit(
      {.id = 2, .prompt = 9, .first_token = 2000, .max_tokens = 20, .want_prompt_logits = true});
  std::vector<TokenId> prompt;
  while (scheduler().HasWork()) {
    const StepPlan plan = Plan();
    auto events = CommitOf(plan);
    for (const SequenceEvent& event : events) {
      for (const SampledToken& token : event.prompt_logprobs) prompt.push_back(token.id);
    }
    Receive(events);
  }
  EXPECT_GT(last_[2].num_preemptions, 0);
  EXPECT_EQ(prompt, (std::vector<TokenId>{2001, 2002, 2003, 2004, 2005, 2006, 2007, 2008}));
}

TEST_F(SchedulerTest, TheSameInputsGiveTheSamePlans) {
  using Trace = std::vector<std::tuple<RequestId, int, int, bool, std::vector<BlockId>>>;
  const auto trace = [&] {
    scheduler_.reset();
    Trace rows;
    for (RequestId id = 1; id <= 40; ++id) {
      MustAdmit({.id = id,
                 .prompt = static_cast<int>(id * 7 % 23 + 1),
                 .first_token = static_cast<int>(id % 3 * 1000),
                 .max_tokens = static_cast<int>(id * 5 % 17),
                 .priority = static_cast<int>(id % 4)});
      if (id % 5 == 0) scheduler().Cancel(id / 2);
      if (id % 7 == 0) scheduler().SetPaused(id, true);
      const StepPlan plan = Plan();
      for (const StepRow& row : plan.rows) {
        rows.emplace_back(row.sequence->id, row.first_token, row.num_tokens, row.sample,
                          row.sequence->blocks);
      }
      Commit(plan);
    }
    return rows;
  };
  options_.num_blocks = 20;
  const Trace first = trace();
  EXPECT_GT(first.size(), 50u);
  EXPECT_EQ(first, trace());
}

TEST_F(SchedulerTest, TheCostOfAStepDoesNotDependOnHowManyWait) {
  options_.max_waiting_requests = 20000;
  options_.num_blocks = 30;
  const auto comparisons = [&](int num_waiting) {
    scheduler_.reset();
    for (int i = 0; i < num_waiting; ++i) {
      MustAdmit({.id = static_cast<RequestId>(i + 1),
                 .prompt = 9,
                 .first_token = i * 20,
                 .max_tokens = 30});
    }
    const uint64_t before = scheduler().stats().queue_comparisons;
    for (int i = 0; i < 60; ++i) {  // CheckInvariants of Step() would scan
      const StepPlan plan = scheduler().Plan();
      CommitOf(plan);
    }
    EXPECT_GT(scheduler().stats().preemptions, 0u);  // these go back into the queue
    return scheduler().stats().queue_comparisons - before;
  };
  const uint64_t few = comparisons(50);
  EXPECT_EQ(comparisons(10000), few);
}

// ---- Planning ahead.

TEST_F(SchedulerTest, AStepPlannedAheadIsTheOneThatWouldHaveBeenPlanned) {
  using Trace = std::vector<std::tuple<RequestId, int, int, bool>>;
  const auto trace = [&](bool ahead) {
    scheduler_.reset();
    std::vector<Trace> steps;
    for (RequestId id = 1; id <= 6; ++id) {
      MustAdmit({.id = id,
                 .prompt = static_cast<int>(3 + 7 * id),
                 .first_token = static_cast<int>(1000 * id),
                 .max_tokens = static_cast<int>(2 + id * 5)});
    }
    while (scheduler().HasWork()) {
      const StepPlan plan = Plan();
      if (ahead) scheduler().PlanAhead();
      Trace& rows = steps.emplace_back();
      for (const StepRow& row : plan.rows) {
        rows.emplace_back(row.sequence->id, row.first_token, row.num_tokens, row.sample);
      }
      std::sort(rows.begin(), rows.end());  // decode rows stand in any order
      Commit(plan);
    }
    return steps;
  };
  const std::vector<Trace> plain = trace(false);
  EXPECT_EQ(scheduler().stats().rows_ahead, 0u);
  EXPECT_EQ(trace(true), plain);
  EXPECT_GT(scheduler().stats().rows_ahead, 50u);
}

TEST_F(SchedulerTest, WhoEndsIsPausedOrIsCancelledBehindAPlanAheadHasNoRowInTheNextStep) {
  const std::vector<TokenId> solo = Solo({.id = 1, .max_tokens = 10});
  MustAdmit({.id = 1, .max_tokens = 10, .stop_ids = {solo[1]}});  // with its second token
  for (RequestId id = 2; id <= 5; ++id) MustAdmit({.id = id, .max_tokens = 10});
  Step();
  const StepPlan plan = Plan();
  ASSERT_EQ(plan.num_decode_rows, 5);
  scheduler().PlanAhead();
  scheduler().Cancel(2);           // ends with this step
  scheduler().SetPaused(3, true);  // has its token of this step, and no more
  scheduler().CheckInvariants();
  Commit(plan);
  scheduler().Cancel(4);
  EXPECT_EQ(IdsOf(Plan()), (Ids{5}));
  EXPECT_EQ(finish_[1], FinishReason::kStop);
  EXPECT_EQ(finish_[2], FinishReason::kCancelled);
  EXPECT_EQ(output_[3].size(), 2u);
}

TEST_F(SchedulerTest, ASeniorTakesTheBlocksOfRowsThatWerePlannedAhead) {
  options_.num_blocks = 6;  // of 4 tokens
  MustAdmit({.id = 1, .prompt = 8, .max_tokens = 8});
  MustAdmit({.id = 2, .prompt = 5, .first_token = 2000, .max_tokens = 8});
  Step();
  while (scheduler().stats().preemptions == 0) {
    const StepPlan plan = Plan();
    ASSERT_FALSE(plan.rows.empty());
    scheduler().PlanAhead();
    scheduler().CheckInvariants();
    Commit(plan);
  }
  RunAll();
  EXPECT_EQ(output_[1], Solo({.id = 1, .prompt = 8, .max_tokens = 8}));
  EXPECT_EQ(output_[2], Solo({.prompt = 5, .first_token = 2000, .max_tokens = 8}));
  EXPECT_GT(last_[2].num_preemptions, 0);
}

TEST_F(SchedulerTest, PlanningAheadDoesNotChangeWhoGetsTheLastBlocks) {
  const auto preemptions = [&](bool ahead) {
    scheduler_.reset();
    MustAdmit({.id = 1, .prompt = 7, .max_tokens = 20, .priority = 5});
    Step();
    MustAdmit({.id = 2, .prompt = 8, .first_token = 2000, .max_tokens = 20, .priority = 0});
    while (scheduler().HasWork()) {
      const StepPlan plan = Plan();
      if (ahead) scheduler().PlanAhead();
      Commit(plan);
    }
    return std::pair(last_[1].num_preemptions, last_[2].num_preemptions);
  };
  for (options_.num_blocks = 7; options_.num_blocks < 12; ++options_.num_blocks) {
    EXPECT_EQ(preemptions(true), preemptions(false)) << options_.num_blocks;
    EXPECT_EQ(preemptions(true).second, 0) << options_.num_blocks;
  }
}

TEST_F(SchedulerTest, FailAllForgetsWhatWasPlannedAhead) {
  for (RequestId id = 1; id <= 3; ++id) MustAdmit({.id = id, .max_tokens = 9});
  Step();
  Plan();
  scheduler().PlanAhead();
  scheduler().FailAll(absl::UnavailableError("device lost"));
  EXPECT_EQ(scheduler().TakeEvents().size(), 3u);
  EXPECT_TRUE(Plan().rows.empty());
  MustAdmit({.id = 7});
  EXPECT_EQ(IdsOf(Plan()), (Ids{7}));
}

TEST(SimulatedDevice, NoticesForeignContent) {  // the oracle of all these tests
  SimulatedDevice device(4, 4);
  Sequence a, b;
  a.tenant = "a";
  b.tenant = "b";
  a.tokens = b.tokens = {1, 2, 3, 4, 5};
  a.num_prompt_tokens = b.num_prompt_tokens = 5;
  a.blocks = {0, 1};
  b.blocks = {0, 2};  // shared across tenants
  StepPlan plan;
  StepResult result;
  plan.rows = {{.sequence = &a, .first_token = 0, .num_tokens = 4}};
  device.Run(plan, &result);
  plan.rows = {{.sequence = &a, .first_token = 4, .num_tokens = 1}};
  device.Run(plan, &result);
  EXPECT_EQ(device.num_mismatches(), 0);
  plan.rows = {{.sequence = &b, .first_token = 4, .num_tokens = 1}};
  device.Run(plan, &result);
  EXPECT_GT(device.num_mismatches(), 0);
}

}  // namespace
}  // namespace trireme
