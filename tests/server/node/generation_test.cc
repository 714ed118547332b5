#include <atomic>
#include <future>
#include <memory>

#include "tests/server/node/node_fixture.h"

namespace trireme {
namespace {

class GenerationTest : public NodeTest {
 protected:
  static std::string Joined(const std::vector<TokenText>& tokens) {
    std::string joined;
    for (const TokenText& token : tokens) joined += token.bytes;
    return joined;
  }
  // Letters that follow from the tokens so far.
  static ScriptedExecutor::NextToken Letters() { return ScriptedExecutor::HashOf('a', 26); }
  // Every token of request k (from 1, in order of submission) is the k-th letter.
  static ScriptedExecutor::NextToken LetterOfRequest() {
    return [](const Sequence& sequence) { return static_cast<TokenId>('a' + sequence.id - 1); };
  }
  static std::string Text(const std::vector<TokenId>& ids) { return {ids.begin(), ids.end()}; }
};

TEST_F(GenerationTest, ChatAnswersAreText) {
  StartEngineSaying("Hello, world");
  auto generation = Start(Chat("hi"));
  const std::vector<ChoiceDelta> choices = ReadAll(*generation);
  ASSERT_EQ(choices.size(), 1u);
  EXPECT_EQ(choices[0].text, "Hello, world");
  EXPECT_EQ(choices[0].finish, FinishReason::kStop);
  EXPECT_EQ(choices[0].matched_stop, "");
  EXPECT_EQ(choices[0].token_ids.back(), kEos);
  EXPECT_TRUE(choices[0].tokens.empty());
  EXPECT_TRUE(generation->done());
}

TEST_F(GenerationTest, StopTokenCountsButIsNotShown) {
  StartEngineSaying("ab");
  TextRequest request = Completion("x");
  request.skip_special_tokens = false;
  request.base.sampling.logprobs = 0;
  auto generation = Start(request);
  ChoiceDelta choice = ReadAll(*generation)[0];
  EXPECT_EQ(choice.text, "ab");
  EXPECT_EQ(Joined(choice.tokens), "ab");
  EXPECT_EQ(generation->usage().completion_tokens, 3);

  request.include_stop_in_output = true;
  choice = Run(request)[0];
  EXPECT_EQ(choice.text, "ab<|im_end|>");
  EXPECT_EQ(Joined(choice.tokens), "ab<|im_end|>");
}

TEST_F(GenerationTest, BatchOfPromptsWithSeveralChoicesKeepsTheirIndices) {
  StartEngine(LetterOfRequest());
  TextRequest request = Completion("", 3);
  request.input = std::vector<TextPrompt>{std::string("p"), std::string("qq")};
  request.n = 2;
  auto generation = Start(request);
  EXPECT_EQ(generation->num_choices(), 4);
  const std::vector<ChoiceDelta> choices = ReadAll(*generation);
  EXPECT_EQ(choices[0].text, "aaa");
  EXPECT_EQ(choices[1].text, "bbb");
  EXPECT_EQ(choices[2].text, "ccc");
  EXPECT_EQ(choices[3].text, "ddd");
  EXPECT_EQ(choices[3].finish, FinishReason::kLength);
}

TEST_F(GenerationTest, UsageCountsPromptsOnceAndTokensOfAllCandidates) {
  StartEngine(Letters());
  TextRequest request = Completion("", 5);
  request.input = std::vector<TextPrompt>{std::string(17, 'p'), std::string("qq")};
  request.n = 2;
  request.best_of = 3;
  auto generation = Start(request);
  ReadAll(*generation);
  EXPECT_EQ(generation->usage().prompt_tokens, 19);
  EXPECT_EQ(generation->usage().completion_tokens, 2 * 3 * 5);
  EXPECT_EQ(generation->usage().cached_tokens, 0);

  auto again = Start(request);
  ReadAll(*again);
  EXPECT_EQ(again->usage().cached_tokens, 16);  // of the first prompt; once, not three times
}

// ---- Stop strings.

TEST_F(GenerationTest, StopStringAcrossTokensIsCutExactlyAndEndsTheEngineRequest) {
  StartEngineSaying("One two three four");
  TextRequest request = Completion("x");
  request.stop = {"nothing", "o thr"};
  request.base.sampling.logprobs = 0;
  auto generation = Start(request);
  const ChoiceDelta choice = ReadAll(*generation)[0];
  EXPECT_EQ(choice.text, "One tw");
  EXPECT_EQ(choice.finish, FinishReason::kStop);
  EXPECT_EQ(choice.matched_stop, "o thr");
  EXPECT_EQ(choice.token_ids, Bytes("One two thr"));
  EXPECT_EQ(generation->usage().completion_tokens, 11);
}

TEST_F(GenerationTest, StopStringCanBeIncluded) {
  StartEngineSaying("One two three four");
  TextRequest request = Completion("x");
  request.stop = {"two"};
  request.include_stop_in_output = true;
  EXPECT_EQ(Run(request)[0].text, "One two");
}

TEST_F(GenerationTest, MatchedStopStringEndsTheEngineRequestAsAStop) {
  StartEngine(ScriptedExecutor::Script(Bytes("abc")));  // and c for ever
  TextRequest request = Completion("x", 300);
  request.stop = {"cc"};
  executor_->CloseGate();
  auto generation = Start(request);
  executor_->AllowSteps(4);
  EXPECT_EQ(ReadAll(*generation)[0].text, "ab");
  executor_->OpenGate();
  node_.engine->WaitIdleAndCheck();
  EXPECT_EQ(node_.engine->stats().finished_stop, 1u);
  EXPECT_LE(executor_->num_steps(), 6);
}

TEST_F(GenerationTest, HeldBackTextComesAtTheEndWhenNoStopFollows) {
  StartEngineSaying("abc");
  TextRequest request = Completion("x");
  request.stop = {"bcd"};
  EXPECT_EQ(Run(request)[0].text, "abc");
}

// ---- Characters over several tokens.

TEST_F(GenerationTest, CharacterOverThreeTokensIsHeldUntilItIsWhole) {
  StartEngineSaying("\xe2\x82\xac!");  // the euro sign
  executor_->CloseGate();
  auto generation = Start(Completion("x"));
  for (int step = 0; step < 2; ++step) {
    executor_->AllowSteps(1);
    const std::vector<ChoiceDelta> deltas = *generation->Next(absl::InfiniteFuture());
    ASSERT_EQ(deltas.size(), 1u);
    EXPECT_EQ(deltas[0].text, "");
    EXPECT_EQ(deltas[0].token_ids.size(), 1u);
  }
  executor_->OpenGate();
  EXPECT_EQ(ReadAll(*generation)[0].text, "\xe2\x82\xac!");
}

TEST_F(GenerationTest, LimitInsideACharacterStillGivesValidText) {
  StartEngineSaying("a\xe2\x82\xac");
  EXPECT_EQ(Run(Completion("x", 3))[0].text, "a\xef\xbf\xbd");
}

TEST_F(GenerationTest, DeltasOfOneCallLeaveNothingInThoseOfTheNext) {
  StartEngine(Letters());
  executor_->CloseGate();
  TextRequest request = Completion("x", 300);
  request.n = 2;
  request.base.sampling.logprobs = 1;
  request.base.sampling.prompt_logprobs = true;
  auto generation = Start(request);
  executor_->AllowSteps(3);
  executor_->WaitForBlockedStep();
  const auto first = generation->TryNext();
  ASSERT_EQ(first->size(), 2u);
  for (const ChoiceDelta& delta : *first) EXPECT_EQ(delta.prompt_tokens.size(), 1u);
  for (int step = 0; step < 4; ++step) {
    executor_->AllowSteps(1);
    executor_->WaitForBlockedStep();
    const auto deltas = generation->TryNext();
    ASSERT_EQ(deltas->size(), 2u);
    for (const ChoiceDelta& delta : *deltas) {
      EXPECT_EQ(delta.token_ids.size(), 1u);
      EXPECT_EQ(delta.tokens.size(), 1u);
      EXPECT_EQ(delta.text.size(), 1u);
      EXPECT_TRUE(delta.prompt_tokens.empty());
    }
    const ChoiceDelta taken = std::move((*deltas)[0]);  // as readers may
  }
}

// ---- Echo and logprobs.

TEST_F(GenerationTest, LogprobsCarryTheTextOfTheirTokens) {
  StartEngineSaying("ab");
  TextRequest request = Completion("xyz");
  request.base.sampling.logprobs = 2;
  const ChoiceDelta choice = Run(request)[0];
  ASSERT_EQ(choice.tokens.size(), 2u);
  EXPECT_EQ(choice.tokens[0].bytes, "a");
  EXPECT_EQ(choice.tokens[0].id, 'a');
  EXPECT_EQ(choice.tokens[0].logprob, ScriptedExecutor::LogprobOf('a', 3));
  ASSERT_EQ(choice.tokens[0].top.size(), 2u);
  EXPECT_EQ(choice.tokens[0].top[1].first, "b");
  EXPECT_EQ(choice.tokens[0].top_ids, (std::vector<TokenId>{'a', 'b'}));
  EXPECT_EQ(choice.tokens[1].bytes, "b");
  EXPECT_TRUE(choice.prompt_tokens.empty());
}

TEST_F(GenerationTest, EchoPutsThePromptFirst) {
  StartEngineSaying("!");
  TextRequest request = Completion("");
  request.input = std::vector<TextPrompt>{std::string("text"), Bytes("ids")};
  request.echo = true;
  const std::vector<ChoiceDelta> choices = Run(request);
  EXPECT_EQ(choices[0].text, "text!");
  EXPECT_EQ(choices[1].text, "ids!");
  EXPECT_TRUE(choices[0].prompt_tokens.empty());
}

// Where each token begins in the text, as the doors tell it.
std::vector<int> Offsets(const ChoiceDelta& choice) {
  std::vector<int> offsets;
  int offset = 0;
  for (const auto* tokens : {&choice.prompt_tokens, &choice.tokens}) {
    for (const TokenText& token : *tokens) {
      offsets.push_back(offset);
      offset += token.num_chars;
    }
  }
  return offsets;
}

TEST_F(GenerationTest, SpecialTokensOfAPromptOfIdsAreEchoed) {
  StartEngine(ScriptedExecutor::Script({'!', kImStart, '?', kEos}));
  TextRequest request = Completion("");
  request.input = std::vector<TextPrompt>{std::vector<TokenId>{kImStart, 'a', kEos, 'b'}};
  request.echo = true;
  request.base.sampling.logprobs = 0;
  ChoiceDelta choice = Run(request)[0];
  EXPECT_EQ(choice.text, "<|im_start|>a<|im_end|>b!?") << "those of the answer are not";
  EXPECT_EQ(Offsets(choice), (std::vector<int>{0, 12, 13, 23, 24, 25, 25}));
  request.skip_special_tokens = false;
  choice = Run(request)[0];
  EXPECT_EQ(choice.text, "<|im_start|>a<|im_end|>b!<|im_start|>?");
  EXPECT_EQ(Offsets(choice), (std::vector<int>{0, 12, 13, 23, 24, 25, 37}));
}

TEST_F(GenerationTest, TokensThatAreNotInTheEchoedTextTakeNoPlaceInIt) {
  TokenizerSpec spec = node_.tokenizer->spec();
  spec.add_bos = true;
  node_.tokenizer = *Tokenizer::Create(std::move(spec));
  StartEngineSaying("!");
  TextRequest request = Completion("a\xc3\xa9<|im_end|>b");
  request.echo = true;
  request.base.sampling.logprobs = 0;
  const ChoiceDelta choice = Run(request)[0];
  ASSERT_EQ(choice.prompt_tokens.size(), 6u);
  EXPECT_EQ(choice.prompt_tokens[0].id, kBos);
  EXPECT_EQ(choice.text, "a\xc3\xa9<|im_end|>b!");
  EXPECT_EQ(Offsets(choice), (std::vector<int>{0, 0, 1, 2, 2, 12, 13}));
}

TEST_F(GenerationTest, EchoWithLogprobsHasThemForEveryPromptToken) {
  StartEngineSaying("!");
  const std::string prompt = "a prompt of several chunks, each of sixteen tokens";
  for (int max_tokens : {0, 1}) {
    TextRequest request = Completion(prompt, max_tokens);
    request.echo = true;
    request.base.sampling.logprobs = 1;
    auto generation = Start(request);
    std::vector<ChoiceDelta> first = *generation->Next(absl::InfiniteFuture());
    ASSERT_EQ(first.size(), 1u);
    EXPECT_EQ(Joined(first[0].prompt_tokens), prompt);
    EXPECT_TRUE(first[0].prompt_tokens[0].top.empty());
    EXPECT_EQ(first[0].prompt_tokens[20].logprob,
              ScriptedExecutor::LogprobOf(static_cast<unsigned char>(prompt[20]), 20));
    EXPECT_EQ(first[0].text, max_tokens == 0 ? prompt : prompt + "!");
    EXPECT_EQ(first[0].finish, FinishReason::kLength);
    EXPECT_EQ(generation->usage().completion_tokens, max_tokens);
  }
}

// ---- best_of.

TEST_F(GenerationTest, BestOfGivesTheMostLikelyCandidatesBestFirst) {
  StartEngine(LetterOfRequest());
  TextRequest request = Completion("x", 1);
  request.n = 2;
  request.best_of = 20;  // letters a to t
  std::vector<std::pair<float, char>> ranking;
  for (char c = 'a'; c <= 't'; ++c) ranking.emplace_back(-ScriptedExecutor::LogprobOf(c, 1), c);
  std::sort(ranking.begin(), ranking.end());
  auto generation = Start(request);
  EXPECT_EQ(generation->finish_reasons(), std::vector(2, FinishReason::kNone));
  const std::vector<ChoiceDelta> choices = ReadAll(*generation);
  ASSERT_EQ(choices.size(), 2u);
  EXPECT_EQ(generation->finish_reasons(), std::vector(2, FinishReason::kLength))
      << "of the choices, not of the candidates";
  EXPECT_EQ(choices[0].text, std::string(1, ranking[0].second));
  EXPECT_EQ(choices[1].text, std::string(1, ranking[1].second));
  EXPECT_TRUE(choices[0].tokens.empty());  // logprobs were not asked for
}

TEST_F(GenerationTest, BestOfDeliversNothingBeforeAllHaveFinished) {
  StartEngine(LetterOfRequest());
  executor_->CloseGate();
  TextRequest request = Completion("x", 4);
  request.best_of = 2;
  auto generation = Start(request);
  executor_->AllowSteps(3);
  executor_->WaitForBlockedStep();
  EXPECT_TRUE(generation->TryNext()->empty());
  EXPECT_FALSE(generation->done());
  executor_->OpenGate();
  EXPECT_EQ(ReadAll(*generation)[0].text.size(), 4u);
}

// ---- Errors, destruction, readiness.

TEST_F(GenerationTest, ErrorOfOneChoiceEndsTheGenerationForGood) {
  StartEngine(Letters());
  executor_->CloseGate();
  TextRequest request = Completion("x", 300);
  request.n = 3;
  auto generation = Start(request);
  executor_->FailRowsOf(2, absl::InternalError("logits are not numbers"));
  executor_->AllowSteps(2);  // the second has a row of each
  absl::Status status;
  while (status.ok()) status = generation->Next(absl::InfiniteFuture()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(generation->TryNext().status(), status);
  EXPECT_TRUE(generation->done());
  executor_->OpenGate();
  node_.engine->WaitIdleAndCheck();
  EXPECT_EQ(node_.engine->stats().cancelled, 2u);
}

TEST_F(GenerationTest, RefusedSubmissionLeavesNothingBehind) {
  options_.scheduler.max_running = 1;
  options_.scheduler.max_waiting_requests = 4;
  StartEngine(Letters());
  executor_->CloseGate();
  auto running = Start(Completion("x", 300));
  executor_->WaitForBlockedStep();
  TextRequest request = Completion("y");
  request.n = 3;
  auto queued = Start(request);
  const auto refused = Generation::Start(node_, request, *Prepare(node_, request));
  EXPECT_EQ(ErrorCode(refused.status()), "overloaded");
  running.reset();
  executor_->OpenGate();
  EXPECT_EQ(ReadAll(*queued)[2].token_ids.size(), 64u);
  node_.engine->WaitIdleAndCheck();
  EXPECT_EQ(node_.engine->stats().finished_length, 3u);
}

TEST_F(GenerationTest, AReaderThatIsTooSlowIsToldSo) {
  options_.max_unread_tokens = 4;
  options_.slow_reader_timeout = absl::ZeroDuration();
  StartEngine(Letters());
  auto generation = Start(Completion("x", 300));
  node_.engine->WaitIdleAndCheck();  // nothing was read
  const absl::Status status = generation->TryNext().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(ErrorCode(status), "slow_reader");
  EXPECT_TRUE(generation->done());
}

TEST_F(GenerationTest, DestructionCancelsEveryChoice) {
  StartEngine(Letters());
  executor_->CloseGate();
  TextRequest request = Completion("x", 300);
  request.n = 5;
  Start(request).reset();
  executor_->OpenGate();
  node_.engine->WaitIdleAndCheck();
  EXPECT_EQ(node_.engine->stats().cancelled, 5u);
}

TEST_F(GenerationTest, NextGivesUpAtItsDeadline) {
  StartEngine(Letters());
  executor_->CloseGate();
  auto generation = Start(Completion("x", 3));
  EXPECT_EQ(generation->Next(node_.clock->Now() + absl::Milliseconds(1)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  executor_->OpenGate();
  EXPECT_EQ(ReadAll(*generation)[0].token_ids.size(), 3u);
}

TEST_F(GenerationTest, ReadyIsCalledOnceForTheNewsOfManyChoices) {
  StartEngine(Letters());
  executor_->CloseGate();
  TextRequest request = Completion("x", 300);
  request.n = 8;
  auto generation = Start(request);
  std::atomic<int> calls = 0;
  generation->NotifyWhenReady([&] { ++calls; });
  EXPECT_EQ(calls, 0);
  executor_->AllowSteps(3);
  executor_->WaitForBlockedStep();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(generation->TryNext()->size(), 8u);
  executor_->AllowSteps(1);
  executor_->WaitForBlockedStep();
  generation->NotifyWhenReady([&] { ++calls; });  // at once
  EXPECT_EQ(calls, 2);
  generation.reset();
  EXPECT_EQ(calls, 2);
}

TEST_F(GenerationTest, ReadyIsCalledAtOnceWhenAllIsDone) {
  StartEngine(Letters());
  auto generation = Start(Completion("x", 2));
  ReadAll(*generation);
  int calls = 0;
  generation->NotifyWhenReady([&] { ++calls; });
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(generation->TryNext()->empty());
}

// A connection's life: told from the engine thread, read elsewhere, ended at any moment.
// (Sanitizers judge.)
TEST_F(GenerationTest, ReadinessRacesWithReadingAndDestruction) {
  StartEngine(Letters());
  TextRequest request = Completion("x", 12);
  request.n = 4;
  for (int round = 0; round < 100; ++round) {
    auto generation = Start(request);
    const int reads = round % 8;
    for (int i = 0; i < reads && !generation->done(); ++i) {
      auto ready = std::make_shared<std::promise<void>>();  // throws if `ready` comes twice
      generation->NotifyWhenReady([ready] { ready->set_value(); });
      ready->get_future().wait();
      EXPECT_TRUE(generation->TryNext().ok());
    }
    auto counter = std::make_unique<std::atomic<int>>(0);
    generation->NotifyWhenReady([c = counter.get()] { c->fetch_add(1); });
    generation.reset();
    EXPECT_LE(counter->load(), 1);
  }
}

}  // namespace
}  // namespace trireme
