// The engine over a scripted executor: what streams deliver, and what faults, deadlines and full
// queues do.
#include "runtime/engine/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "runtime/base/status.h"
#include "tests/fakes/scripted_executor.h"

namespace trireme {
namespace {

using fakes::ScriptedExecutor;

constexpr int kVocab = 1000;
constexpr TokenId kEos = 2;

struct Output {
  std::vector<TokenId> tokens;
  FinishReason finish = FinishReason::kNone;
  absl::Status error;
  int num_cached_prompt_tokens = 0;
};

Output ReadAll(RequestStream& stream) {
  Output output;
  while (output.finish == FinishReason::kNone) {
    absl::StatusOr<StreamEvent> event = stream.Next(absl::InfiniteFuture());
    EXPECT_TRUE(event.ok()) << event.status();
    if (!event.ok()) break;
    for (const SampledToken& token : event->tokens) output.tokens.push_back(token.id);
    output.num_cached_prompt_tokens =
        std::max(output.num_cached_prompt_tokens, event->num_cached_prompt_tokens);
    output.finish = event->finish;
    output.error = event->error;
  }
  return output;
}

class Recorder final : public EngineObserver {
 public:
  void OnStep(const StepRecord& record) override {
    step_tokens += record.tokens;
    std::lock_guard lock(mu);
    steps.push_back(record);
  }
  void OnToken(absl::Duration) override { ++later_tokens; }
  void OnFirstToken(absl::Duration) override { ++first_tokens; }
  void OnFinish(const RequestRecord& record) override {
    std::lock_guard lock(mu);
    records.push_back(record);
  }
  std::atomic<int> step_tokens = 0, later_tokens = 0, first_tokens = 0;
  std::mutex mu;
  std::vector<RequestRecord> records;  // guarded by mu
  std::vector<StepRecord> steps;       // guarded by mu
};

void WaitUntilClosing(const Engine& engine) {
  while (engine.accepting().ok()) std::this_thread::yield();
}

class EngineTest : public testing::Test {
 protected:
  EngineTest() {
    options_.scheduler = {.block_size = 4,
                          .num_blocks = 256,
                          .max_context_tokens = 512,
                          .max_running = 32,
                          .max_step_tokens = 64,
                          .max_prefill_chunk = 16,
                          .max_waiting_requests = 64,
                          .max_waiting_prompt_tokens = 4096};
    options_.limits = {.vocab_size = kVocab, .max_context_tokens = 512, .eos_ids = {kEos}};
  }
  // Tests that found the engine in a bad state must not leave one behind.
  ~EngineTest() override {
    if (engine_ == nullptr) return;
    executor_->OpenGate();
    engine_->WaitIdleAndCheck();
    EXPECT_EQ(engine_->stats().scheduler.blocks_held, 0);
    EXPECT_EQ(executor_->num_open(), 0);
  }

  void Start(const Clock* clock = &Clock::Monotonic()) {
    auto executor = std::make_unique<ScriptedExecutor>(kVocab, next_);
    executor_ = executor.get();
    engine_ = std::make_unique<Engine>(options_, std::move(executor), clock, &recorder_);
  }

  static GenerateRequest Request(int prompt_tokens, int max_tokens, TokenId flavour = 10) {
    GenerateRequest request;
    for (int i = 0; i < prompt_tokens; ++i) request.prompt.push_back(flavour + i % 7);
    request.max_tokens = max_tokens;
    return request;
  }
  RequestStream Submit(GenerateRequest request) {
    absl::StatusOr<RequestStream> stream = engine_->Submit(std::move(request));
    EXPECT_TRUE(stream.ok()) << stream.status();
    return *std::move(stream);
  }
  // A request that is running: it has delivered its first token, and the engine thread waits in its
  // next step.
  RequestStream SubmitRunning() {
    executor_->CloseGate();
    RequestStream stream = Submit(Request(3, 400));
    executor_->WaitForBlockedStep();
    executor_->AllowSteps(1);
    executor_->WaitForBlockedStep();
    return stream;
  }

  const ScriptedExecutor::NextToken next_ = ScriptedExecutor::HashOf(100, 800);
  EngineOptions options_;
  ManualClock clock_;
  Recorder recorder_;
  ScriptedExecutor* executor_ = nullptr;
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineTest, DeliversTheTokensOfTheSequenceInOrder) {
  Start();
  const GenerateRequest request = Request(37, 20);
  RequestStream stream = Submit(request);
  const Output output = ReadAll(stream);
  EXPECT_EQ(output.tokens, ScriptedExecutor::Expected(next_, request.prompt, 20));
  EXPECT_EQ(output.finish, FinishReason::kLength);
}

TEST_F(EngineTest, ManyRequestsEachGetTheirOwnTokens) {
  Start();
  std::vector<RequestStream> streams;
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 48; ++i) {
    requests.push_back(Request(1 + i, 1 + i % 13, /*flavour=*/10 + i));
    streams.push_back(Submit(requests.back()));
  }
  for (size_t i = 0; i < streams.size(); ++i) {
    EXPECT_EQ(ReadAll(streams[i]).tokens,
              ScriptedExecutor::Expected(next_, requests[i].prompt, *requests[i].max_tokens));
  }
}

TEST_F(EngineTest, UnlimitedRequestRunsToTheEndOfTheContext) {
  Start();
  GenerateRequest request = Request(500, 0);
  request.max_tokens.reset();
  RequestStream stream = Submit(std::move(request));
  EXPECT_EQ(ReadAll(stream).tokens.size(), 12u);
}

TEST_F(EngineTest, ContextIsLimitedByTheKvCache) {
  options_.scheduler.num_blocks = 8;  // 32 tokens
  Start();
  EXPECT_EQ(engine_->options().limits.max_context_tokens, 32);
  EXPECT_EQ(ErrorCode(engine_->Submit(Request(30, 3)).status()), "context_length_exceeded");
  RequestStream stream = Submit(Request(30, 2));
  EXPECT_EQ(ReadAll(stream).finish, FinishReason::kLength);
}

TEST_F(EngineTest, EosStopsUnlessIgnored) {
  auto executor =
      std::make_unique<ScriptedExecutor>(kVocab, ScriptedExecutor::Script({5, 6, kEos, 7}));
  executor_ = executor.get();
  engine_ = std::make_unique<Engine>(options_, std::move(executor), &Clock::Monotonic(), nullptr);
  RequestStream stream = Submit(Request(2, 10));
  Output output = ReadAll(stream);
  EXPECT_EQ(output.tokens, (std::vector<TokenId>{5, 6, kEos}));
  EXPECT_EQ(output.finish, FinishReason::kStop);

  GenerateRequest ignoring = Request(2, 4);
  ignoring.ignore_eos = true;
  stream = Submit(ignoring);
  output = ReadAll(stream);
  EXPECT_EQ(output.tokens, (std::vector<TokenId>{5, 6, kEos, 7}));
  EXPECT_EQ(output.finish, FinishReason::kLength);

  ignoring.stop_token_ids = {6};
  stream = Submit(ignoring);
  EXPECT_EQ(ReadAll(stream).tokens, (std::vector<TokenId>{5, 6}));
}

TEST_F(EngineTest, PrefillOnlyRequestDeliversPromptLogprobs) {
  Start();
  GenerateRequest request = Request(40, 0);  // three chunks
  request.sampling.logprobs = 2;
  request.sampling.prompt_logprobs = true;
  const std::vector<TokenId> prompt = request.prompt;
  RequestStream stream = Submit(std::move(request));
  std::vector<SampledToken> logprobs;
  for (FinishReason finish = FinishReason::kNone; finish == FinishReason::kNone;) {
    StreamEvent event = *stream.Next(absl::InfiniteFuture());
    EXPECT_TRUE(event.tokens.empty());
    for (SampledToken& token : event.prompt_logprobs) logprobs.push_back(std::move(token));
    finish = event.finish;
  }
  ASSERT_EQ(logprobs.size(), prompt.size() - 1);
  for (size_t i = 0; i < logprobs.size(); ++i) {
    EXPECT_EQ(logprobs[i].id, prompt[i + 1]);
    EXPECT_EQ(logprobs[i].logprob,
              ScriptedExecutor::LogprobOf(prompt[i + 1], static_cast<int>(i) + 1));
    EXPECT_EQ(logprobs[i].top.size(), 2u);
  }
}

TEST_F(EngineTest, InvalidRequestIsRefusedAndCounted) {
  Start();
  EXPECT_EQ(ErrorParam(engine_->Submit(Request(0, 1)).status()), "prompt");
  EXPECT_EQ(engine_->stats().refused, 1u);
  EXPECT_EQ(engine_->stats().submitted, 0u);
}

TEST_F(EngineTest, RepeatedPromptHitsThePrefixCache) {
  Start();
  RequestStream first = Submit(Request(33, 2));
  EXPECT_EQ(ReadAll(first).num_cached_prompt_tokens, 0);
  RequestStream second = Submit(Request(33, 2));
  EXPECT_EQ(ReadAll(second).num_cached_prompt_tokens, 32);
}

// ---- Cancellation.

TEST_F(EngineTest, QueuedRequestIsCancelledWithoutAStep) {
  options_.scheduler.max_running = 1;
  Start();
  RequestStream running = SubmitRunning();
  RequestStream queued = Submit(Request(3, 5));
  const RequestId id = queued.id();
  queued.Cancel();
  executor_->AllowSteps(1);
  EXPECT_EQ(ReadAll(queued).finish, FinishReason::kCancelled);
  EXPECT_FALSE(executor_->saw(id));
  running.Cancel();
}

// The reader found a stop string: a success, not an abortion.
TEST_F(EngineTest, StopFoundByTheReaderIsCountedAsStop) {
  Start();
  RequestStream stream = SubmitRunning();
  stream.Cancel(FinishReason::kStop);
  executor_->AllowSteps(1);
  EXPECT_EQ(ReadAll(stream).finish, FinishReason::kStop);
  EXPECT_EQ(engine_->stats().finished_stop, 1u);
  EXPECT_EQ(engine_->stats().cancelled, 0u);
  std::lock_guard lock(recorder_.mu);
  EXPECT_EQ(recorder_.records.at(0).finish, FinishReason::kStop);
}

TEST_F(EngineTest, LoadCountsWhatArrivesDuringAStep) {
  Start();
  RequestStream running = SubmitRunning();
  RequestStream first = Submit(Request(5, 1)), second = Submit(Request(6, 1));
  EXPECT_EQ(engine_->stats().scheduler.running, 1);
  EXPECT_EQ(engine_->stats().scheduler.waiting, 2);
  EXPECT_EQ(engine_->stats().scheduler.waiting_prompt_tokens, 11);
  first.Cancel();
  EXPECT_EQ(engine_->stats().scheduler.waiting, 1);
  EXPECT_EQ(engine_->stats().scheduler.waiting_prompt_tokens, 6);
  running.Cancel();
  executor_->OpenGate();
  EXPECT_EQ(ReadAll(second).finish, FinishReason::kLength);
  EXPECT_EQ(ReadAll(first).finish, FinishReason::kCancelled);
}

TEST_F(EngineTest, DestroyedStreamIsCancelledWithinTwoSteps) {
  Start();
  { RequestStream stream = SubmitRunning(); }
  executor_->AllowSteps(1);  // the one that was under way
  engine_->WaitIdleAndCheck();
  EXPECT_EQ(executor_->num_steps(), 2);
  EXPECT_EQ(engine_->stats().cancelled, 1u);
}

TEST_F(EngineTest, PrefillIsCancelledBetweenChunks) {
  Start();
  executor_->CloseGate();
  RequestStream stream = Submit(Request(160, 5));  // ten chunks
  executor_->WaitForBlockedStep();
  stream.Cancel();
  executor_->AllowSteps(1);
  EXPECT_EQ(ReadAll(stream).finish, FinishReason::kCancelled);
  EXPECT_EQ(executor_->num_tokens_computed(), 16);
}

TEST_F(EngineTest, CancelledStreamKeepsWhatHadArrived) {
  Start();
  RequestStream stream = SubmitRunning();
  stream.Cancel();
  executor_->AllowSteps(1);
  const Output output = ReadAll(stream);
  EXPECT_EQ(output.finish, FinishReason::kCancelled);
  EXPECT_GE(output.tokens.size(), 1u);
}

TEST_F(EngineTest, StreamsDieInManyThreadsWhileOthersAreUndisturbed) {
  Start();
  const GenerateRequest survivor_request = Request(20, 150, 77);
  RequestStream survivor = Submit(survivor_request);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 40; ++i) {
        absl::StatusOr<RequestStream> stream = engine_->Submit(Request(1 + i, 50, 10 * t));
        if (!stream.ok()) continue;  // full queue
        if (i % 3 == 1) stream->NotifyWhenReady([] {});
        if (i % 3 == 2) static_cast<void>(stream->Next(absl::InfiniteFuture()));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ReadAll(survivor).tokens,
            ScriptedExecutor::Expected(next_, survivor_request.prompt, 150));
}

// ---- Slow readers.

TEST_F(EngineTest, SlowReaderIsPausedAndResumedWithoutLoss) {
  options_.max_unread_tokens = 8;
  Start();
  const GenerateRequest request = Request(5, 60);
  RequestStream stream = Submit(request);
  RequestStream other = Submit(Request(5, 100, 50));
  EXPECT_EQ(ReadAll(other).tokens.size(), 100u);  // long enough for `stream` to be paused beside it
  EXPECT_EQ(stream.TryNext()->tokens.size(), 10u);
  Output rest = ReadAll(stream);
  EXPECT_EQ(rest.finish, FinishReason::kLength);
  EXPECT_EQ(rest.tokens.size(), 50u);
  EXPECT_EQ(rest.tokens.back(), ScriptedExecutor::Expected(next_, request.prompt, 60).back());
}

TEST_F(EngineTest, ReaderThatStaysSlowIsToldSo) {
  options_.max_unread_tokens = 8;
  options_.slow_reader_timeout = absl::Seconds(30);
  Start(&clock_);
  RequestStream stream = Submit(Request(5, 60));
  RequestStream other = Submit(Request(5, 100, 50));
  EXPECT_EQ(ReadAll(other).finish, FinishReason::kLength);
  clock_.Advance(absl::Seconds(30));
  engine_->Poke();
  engine_->WaitIdleAndCheck();
  const Output output = ReadAll(stream);
  EXPECT_EQ(output.finish, FinishReason::kError);
  EXPECT_EQ(ErrorCode(output.error), "slow_reader");
  EXPECT_EQ(output.tokens.size(), 10u);
  EXPECT_EQ(engine_->stats().failed, 1u);
}

TEST_F(EngineTest, ReaderThatCatchesUpIsNotCancelledByItsOldPause) {
  options_.max_unread_tokens = 8;
  options_.slow_reader_timeout = absl::Seconds(30);
  Start(&clock_);
  RequestStream stream = Submit(Request(5, 15));
  RequestStream other = Submit(Request(5, 100, 50));
  EXPECT_EQ(ReadAll(other).finish, FinishReason::kLength);
  clock_.Advance(absl::Seconds(29));
  EXPECT_EQ(stream.TryNext()->tokens.size(), 10u);  // resumes; the rest fits into the stream
  engine_->WaitIdleAndCheck();
  clock_.Advance(absl::Seconds(29));
  engine_->Poke();
  const Output output = ReadAll(stream);
  EXPECT_EQ(output.finish, FinishReason::kLength);
  EXPECT_EQ(output.tokens.size(), 5u);
}

// ---- Bounds, deadlines, faults.

TEST_F(EngineTest, FullQueueRefusesAtOnceByRequests) {
  options_.scheduler.max_running = 1;
  options_.scheduler.max_waiting_requests = 3;
  Start();
  RequestStream running = SubmitRunning();
  std::vector<RequestStream> queued;
  for (int i = 0; i < 3; ++i) queued.push_back(Submit(Request(2, 2)));
  const absl::Status refusal = engine_->Submit(Request(2, 2)).status();  // while the engine is busy
  EXPECT_EQ(refusal.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrorCode(refusal), "overloaded");
  EXPECT_EQ(engine_->stats().refused, 1u);

  running.Cancel();
  executor_->OpenGate();
  for (RequestStream& stream : queued) EXPECT_EQ(ReadAll(stream).finish, FinishReason::kLength);
  RequestStream again = Submit(Request(2, 2));
  EXPECT_EQ(ReadAll(again).finish, FinishReason::kLength);
}

TEST_F(EngineTest, FullQueueRefusesByPromptTokensAndRecoversByCancellation) {
  options_.scheduler.max_running = 1;
  options_.scheduler.max_waiting_prompt_tokens = 100;
  Start();
  RequestStream running = SubmitRunning();
  {
    RequestStream queued = Submit(Request(60, 2));
    EXPECT_EQ(ErrorCode(engine_->Submit(Request(41, 2)).status()), "overloaded");
    RequestStream fits = Submit(Request(40, 2));
  }  // cancelled: their places are free although the engine is busy
  EXPECT_EQ(engine_->stats().scheduler.waiting_prompt_tokens, 0);
  RequestStream later = Submit(Request(100, 2));
  running.Cancel();
  executor_->OpenGate();
  EXPECT_EQ(ReadAll(later).finish, FinishReason::kLength);
}

TEST_F(EngineTest, DeadlineInTheQueueExpiresWithoutPrefill) {
  options_.scheduler.max_running = 1;
  Start(&clock_);
  RequestStream running = SubmitRunning();
  GenerateRequest request = Request(3, 5);
  request.deadline = clock_.Now() + absl::Seconds(5);
  RequestStream queued = Submit(std::move(request));
  clock_.Advance(absl::Seconds(5));
  executor_->AllowSteps(1);
  const Output output = ReadAll(queued);
  EXPECT_EQ(output.finish, FinishReason::kDeadline);
  EXPECT_EQ(output.error.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(executor_->saw(queued.id()));
  running.Cancel();
}

// The only request is paused: nothing but its deadline can wake the engine thread.
TEST_F(EngineTest, SleepingEngineWakesForADeadline) {
  options_.max_unread_tokens = 4;
  Start();
  GenerateRequest request = Request(3, 400);
  request.deadline = Clock::Monotonic().Now() + absl::Milliseconds(20);
  RequestStream stream = Submit(std::move(request));
  engine_->WaitIdleAndCheck();
  EXPECT_EQ(ReadAll(stream).finish, FinishReason::kDeadline);
}

TEST_F(EngineTest, RowErrorFailsOneRequestAlone) {
  Start();
  executor_->CloseGate();
  RequestStream poor = Submit(Request(3, 50));
  const GenerateRequest healthy_request = Request(3, 50, 60);
  RequestStream healthy = Submit(healthy_request);
  executor_->FailRowsOf(poor.id(), absl::InternalError("logits are not numbers"));
  executor_->OpenGate();
  const Output failed = ReadAll(poor);
  EXPECT_EQ(failed.finish, FinishReason::kError);
  EXPECT_EQ(failed.error.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(ReadAll(healthy).tokens, ScriptedExecutor::Expected(next_, healthy_request.prompt, 50));
  EXPECT_EQ(engine_->stats().failed, 1u);
}

TEST_F(EngineTest, LostDeviceFailsEveryRequestAndRefusesNewOnes) {
  options_.scheduler.max_running = 1;
  Start();
  RequestStream running = SubmitRunning();
  RequestStream queued = Submit(Request(3, 5));
  executor_->LoseDevice(absl::InternalError("Xid 79 on 0000:3b:00"));
  executor_->OpenGate();
  for (RequestStream* stream : {&running, &queued}) {
    const Output output = ReadAll(*stream);
    EXPECT_EQ(output.finish, FinishReason::kError);
    EXPECT_EQ(output.error.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(output.error.message().find("Xid"), absl::string_view::npos);
  }
  EXPECT_EQ(engine_->Submit(Request(3, 5)).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(engine_->stats().device_lost);
  engine_.reset();  // requests that the executor never closed are its own to drop
}

// ---- Drain and destruction.

TEST_F(EngineTest, DrainLetsRunningRequestsFinishAndRefusesNewOnes) {
  Start();
  RequestStream running = SubmitRunning();
  std::thread drain([&] { engine_->Drain(absl::InfiniteFuture()); });
  WaitUntilClosing(*engine_);
  const absl::Status refusal = engine_->Submit(Request(3, 5)).status();
  EXPECT_EQ(refusal.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ErrorCode(refusal), "draining");
  executor_->OpenGate();
  drain.join();
  const Output output = ReadAll(running);
  EXPECT_EQ(output.finish, FinishReason::kLength);
  EXPECT_EQ(output.tokens.size(), 400u);
}

TEST_F(EngineTest, DrainDeadlineFailsWhatIsLeft) {
  options_.max_unread_tokens = 4;
  Start(&clock_);
  RequestStream stuck = Submit(Request(3, 400));  // paused as nobody reads
  std::thread drain([&] { engine_->Drain(clock_.Now() + absl::Seconds(10)); });
  WaitUntilClosing(*engine_);
  clock_.Advance(absl::Seconds(10));
  engine_->Poke();
  drain.join();
  const Output output = ReadAll(stuck);
  EXPECT_EQ(output.finish, FinishReason::kError);
  EXPECT_EQ(output.error.code(), absl::StatusCode::kUnavailable);
}

TEST_F(EngineTest, DestructionGivesEveryStreamItsLastEvent) {
  options_.scheduler.max_running = 2;
  Start();
  std::vector<RequestStream> streams;
  for (int i = 0; i < 10; ++i) streams.push_back(Submit(Request(3, 400)));
  engine_.reset();
  for (RequestStream& stream : streams) {
    const FinishReason finish = ReadAll(stream).finish;
    EXPECT_TRUE(finish == FinishReason::kCancelled || finish == FinishReason::kLength);
  }
}

TEST_F(EngineTest, DestructionDeliversWhatTheLastStepBrought) {
  Start();
  executor_->CloseGate();
  RequestStream stream = Submit(Request(3, 1));
  executor_->WaitForBlockedStep();
  Engine* const engine = engine_.get();
  std::thread destruction([&] { engine_.reset(); });
  WaitUntilClosing(*engine);
  executor_->OpenGate();
  destruction.join();
  const Output output = ReadAll(stream);
  EXPECT_EQ(output.finish, FinishReason::kLength);
  EXPECT_EQ(output.tokens.size(), 1u);
}

// ---- What happens while a step is computed.

TEST_F(EngineTest, AStepsTokensAreDeliveredWhileTheNextOneIsComputed) {
  Start();
  RequestStream stream = SubmitRunning();  // its second step has begun, and does not end
  const std::optional<StreamEvent> event = stream.TryNext();
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->tokens.size(), 1u);
  executor_->OpenGate();
  EXPECT_EQ(ReadAll(stream).tokens.size(), 399u);
  EXPECT_GT(engine_->stats().scheduler.rows_ahead, 390u);
}

TEST_F(EngineTest, BlockedReaderIsWokenByDestruction) {
  Start();
  RequestStream stream = SubmitRunning();
  stream.TryNext();
  Output output;
  std::thread reader([&] { output = ReadAll(stream); });
  executor_->OpenGate();
  engine_.reset();
  reader.join();
  EXPECT_NE(output.finish, FinishReason::kNone);
}

// ---- What the outside learns.

TEST_F(EngineTest, ObserverSeesEveryRequestOnce) {
  Start();
  RequestStream first = Submit(Request(20, 5));
  ReadAll(first);
  RequestStream second = Submit(Request(20, 5));
  ReadAll(second);
  engine_->WaitIdleAndCheck();
  std::lock_guard lock(recorder_.mu);
  ASSERT_EQ(recorder_.records.size(), 2u);
  for (const RequestRecord& record : recorder_.records) {
    EXPECT_EQ(record.prompt_tokens, 20);
    EXPECT_EQ(record.generated_tokens, 5);
    EXPECT_EQ(record.finish, FinishReason::kLength);
    EXPECT_LE(record.arrival, record.first_scheduled);
    EXPECT_LE(record.first_scheduled, record.first_token);
    EXPECT_LE(record.first_token, record.finished);
  }
  EXPECT_EQ(recorder_.records[0].cached_prompt_tokens, 0);
  EXPECT_EQ(recorder_.records[1].cached_prompt_tokens, 16);
  EXPECT_EQ(recorder_.first_tokens, 2);
  EXPECT_EQ(recorder_.later_tokens, 8);
  EXPECT_EQ(recorder_.step_tokens, executor_->num_tokens_computed());
}

TEST_F(EngineTest, StepsAreReportedWithTheirPhasesInOrder) {
  Start();
  RequestStream stream = Submit(Request(20, 5));
  ReadAll(stream);
  engine_->WaitIdleAndCheck();
  std::lock_guard lock(recorder_.mu);
  absl::Time last_end = absl::UnixEpoch();
  uint64_t last_step = 0;
  for (const StepRecord& step : recorder_.steps) {
    EXPECT_EQ(step.step, ++last_step);
    EXPECT_LE(last_end, step.begin);
    EXPECT_LE(step.begin, step.planned);
    EXPECT_LE(step.planned, step.executed);
    EXPECT_LE(step.executed, step.end);
    EXPECT_EQ(step.rows, 1);
    EXPECT_EQ(step.running, 1);
    EXPECT_GT(step.kv_blocks_held, 0);
    EXPECT_LE(step.kv_blocks_held, step.kv_blocks_total);
    last_end = step.end;
  }
  ASSERT_GE(recorder_.steps.size(), 5u);
  EXPECT_EQ(recorder_.steps.front().decode_rows, 0);
  EXPECT_EQ(recorder_.steps.back().decode_rows, 1);
  EXPECT_EQ(recorder_.steps.back().tokens, 1);
}

TEST_F(EngineTest, AStreamTellsItsRecordAtEveryStage) {
  Start();
  const absl::Time before = Clock::Monotonic().Now();
  RequestStream stream = SubmitRunning();
  EXPECT_GE(stream.record().arrival, before);
  EXPECT_GT(stream.record().prompt_tokens, 0);
  EXPECT_EQ(stream.record().finish, FinishReason::kNone);
  EXPECT_EQ(stream.record().finished, absl::UnixEpoch());
  executor_->OpenGate();
  const Output output = ReadAll(stream);
  const RequestRecord record = stream.record();
  EXPECT_EQ(record.finish, output.finish);
  EXPECT_EQ(record.generated_tokens, static_cast<int>(output.tokens.size()));
  EXPECT_LE(record.arrival, record.first_scheduled);
  EXPECT_LE(record.first_scheduled, record.first_token);
  EXPECT_LE(record.first_token, record.last_token);
  EXPECT_LE(record.last_token, record.finished);
}

TEST_F(EngineTest, LastEventFindsItsRequestCounted) {
  Start();
  for (uint64_t i = 1; i <= 20; ++i) {
    RequestStream stream = Submit(Request(2, 2));
    ReadAll(stream);
    EXPECT_EQ(engine_->stats().finished_length, i);
  }
}

}  // namespace
}  // namespace trireme
