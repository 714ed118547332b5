// One stream without an engine: the test plays the engine thread.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "runtime/engine/mailbox.h"
#include "runtime/engine/stream_state.h"

namespace trireme::internal {
namespace {

SequenceEvent Token(TokenId id) {
  SequenceEvent event;
  event.has_token = true;
  event.token.id = id;
  return event;
}
SequenceEvent End(FinishReason reason) {
  SequenceEvent event;
  event.finish = reason;
  return event;
}

using Posted = std::vector<Cancellation>;

class StreamTest : public testing::Test {
 protected:
  std::vector<TokenId> Ids(const StreamEvent& event) {
    std::vector<TokenId> ids;
    for (const SampledToken& token : event.tokens) ids.push_back(token.id);
    return ids;
  }

  static constexpr size_t kMaxUnread = 4;
  std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>(EngineOptions());
  std::shared_ptr<StreamState> stream_ =
      std::make_shared<StreamState>(7, mailbox_, &Clock::Monotonic(), kMaxUnread);
};

TEST_F(StreamTest, NothingArrivedGivesNothing) {
  EXPECT_FALSE(stream_->TryNext());
  EXPECT_EQ(stream_->Next(absl::InfinitePast()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(StreamTest, EventsAreMergedInOrder) {
  SequenceEvent prompt;
  prompt.prompt_logprobs.resize(2);
  prompt.prompt_logprobs[1].id = 42;
  stream_->Append(std::move(prompt), {});
  SequenceEvent first = Token(1);
  first.num_cached_prompt_tokens = 16;
  stream_->Append(std::move(first), {});
  stream_->Append(Token(2), {});
  auto event = stream_->TryNext();
  ASSERT_TRUE(event);
  EXPECT_EQ(Ids(*event), (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(event->prompt_logprobs.size(), 2u);
  EXPECT_EQ(event->prompt_logprobs[1].id, 42);
  EXPECT_EQ(event->num_cached_prompt_tokens, 16);
  EXPECT_EQ(event->finish, FinishReason::kNone);
  EXPECT_FALSE(stream_->TryNext());

  stream_->Append(Token(3), {});
  stream_->Append(End(FinishReason::kLength), {});
  event = stream_->TryNext();
  ASSERT_TRUE(event);
  EXPECT_EQ(Ids(*event), (std::vector<TokenId>{3}));
  EXPECT_EQ(event->finish, FinishReason::kLength);
}

TEST_F(StreamTest, AnEventThatIsUsedAgainHoldsNothingOfTheLast) {
  SequenceEvent first = Token(1);
  first.prompt_logprobs.resize(2);
  first.num_cached_prompt_tokens = 16;
  stream_->Append(std::move(first), {});
  StreamEvent event;
  ASSERT_TRUE(stream_->TryNext(&event));
  for (TokenId id = 2; id < 5; ++id) {
    stream_->Append(Token(id), {});
    ASSERT_TRUE(stream_->TryNext(&event));
    EXPECT_EQ(Ids(event), std::vector<TokenId>{id});
    EXPECT_TRUE(event.prompt_logprobs.empty());
    EXPECT_EQ(event.num_cached_prompt_tokens, 0);
  }
  EXPECT_FALSE(stream_->TryNext(&event));
  EXPECT_TRUE(event.tokens.empty());
}

TEST_F(StreamTest, AfterTheLastEventNextDoesNotBlock) {
  stream_->Append(End(FinishReason::kStop), {});
  EXPECT_TRUE(stream_->Next(absl::InfiniteFuture()).ok());
  EXPECT_EQ(stream_->Next(absl::InfiniteFuture()).status().code(), absl::StatusCode::kOutOfRange);
}

TEST_F(StreamTest, SlowReaderIsPausedOnceAndResumedWhenItReads) {
  for (size_t i = 0; i < kMaxUnread; ++i) EXPECT_FALSE(stream_->Append(Token(1), {}));
  EXPECT_TRUE(stream_->Append(Token(2), {}));
  EXPECT_FALSE(stream_->Append(Token(3), {}));  // is paused already
  EXPECT_TRUE(mailbox_->Take(absl::ZeroDuration()).resumed.empty());
  EXPECT_EQ(stream_->TryNext()->tokens.size(), kMaxUnread + 2);
  EXPECT_EQ(mailbox_->Take(absl::ZeroDuration()).resumed, std::vector<RequestId>{7});
  EXPECT_FALSE(stream_->TryNext());
  EXPECT_TRUE(mailbox_->Take(absl::ZeroDuration()).resumed.empty());
}

TEST_F(StreamTest, NotifyIsCalledAtOnceWhenSomethingIsThere) {
  stream_->Append(Token(1), {});
  int calls = 0;
  stream_->NotifyWhenReady([&] { ++calls; });
  EXPECT_EQ(calls, 1);
  stream_->Append(Token(2), {});
  EXPECT_EQ(calls, 1);
}

TEST_F(StreamTest, NotifyIsCalledOnceWhenSomethingArrives) {
  int calls = 0;
  stream_->NotifyWhenReady([&] { ++calls; });
  EXPECT_EQ(calls, 0);
  stream_->Append(Token(1), {});
  stream_->Append(Token(2), {});
  EXPECT_EQ(calls, 1);
}

TEST_F(StreamTest, SecondNotifyReplacesTheFirst) {
  int first = 0, second = 0;
  stream_->NotifyWhenReady([&] { ++first; });
  stream_->NotifyWhenReady([&] { ++second; });
  stream_->Append(Token(1), {});
  EXPECT_EQ(first, 0);
  EXPECT_EQ(second, 1);
}

TEST_F(StreamTest, CallbackMayUseTheStream) {
  std::vector<TokenId> got;
  stream_->NotifyWhenReady([&] { got = Ids(*stream_->TryNext()); });
  stream_->Append(Token(9), {});
  EXPECT_EQ(got, std::vector<TokenId>{9});
}

TEST_F(StreamTest, CallbackMayAbandonTheStream) {
  stream_->NotifyWhenReady([&] { stream_->Abandon(); });
  stream_->Append(Token(9), {});  // would deadlock
  EXPECT_EQ(mailbox_->Take(absl::ZeroDuration()).cancelled,
            (Posted{{7, FinishReason::kCancelled}}));
}

TEST_F(StreamTest, CancelIsPostedOnce) {
  stream_->Cancel(FinishReason::kStop);
  stream_->Cancel(FinishReason::kCancelled);
  stream_->Abandon();
  EXPECT_EQ(mailbox_->Take(absl::ZeroDuration()).cancelled, (Posted{{7, FinishReason::kStop}}));
}

TEST_F(StreamTest, EndedStreamIsNotCancelled) {
  stream_->Append(End(FinishReason::kStop), {});
  stream_->Abandon();
  EXPECT_TRUE(mailbox_->Take(absl::ZeroDuration()).cancelled.empty());
}

TEST_F(StreamTest, AbandonedStreamDropsItsCallbackAndKeepsNothing) {
  int calls = 0;
  stream_->NotifyWhenReady([&] { ++calls; });
  stream_->Abandon();
  for (size_t i = 0; i < 2 * kMaxUnread; ++i) EXPECT_FALSE(stream_->Append(Token(1), {}));
  EXPECT_EQ(calls, 0);
  EXPECT_FALSE(stream_->TryNext());
}

TEST_F(StreamTest, AbandonWaitsForARunningCallback) {
  std::atomic<bool> entered = false, leave = false, abandoned = false;
  stream_->NotifyWhenReady([&] {
    entered = true;
    entered.notify_all();
    leave.wait(false);
    EXPECT_FALSE(abandoned);
  });
  std::thread engine([&] { stream_->Append(Token(1), {}); });
  entered.wait(false);
  std::thread reader([&] {
    stream_->Abandon();
    abandoned = true;
  });
  // The reader has posted its cancellation before it waits for the callback.
  while (mailbox_->Take(absl::InfiniteDuration()).cancelled.empty()) {
  }
  leave = true;
  leave.notify_all();
  reader.join();
  engine.join();
  EXPECT_TRUE(abandoned);
}

// The callback and the destruction of what it touches race; every outcome must be safe. (Sanitizers
// judge.)
TEST_F(StreamTest, AppendsRaceWithNotifyAndAbandon) {
  for (int round = 0; round < 300; ++round) {
    auto stream = std::make_shared<StreamState>(round + 1, mailbox_, &Clock::Monotonic(), 1000);
    std::thread engine([stream] {
      for (int i = 0; i < 20; ++i) stream->Append(Token(i), {});
      stream->Append(End(FinishReason::kLength), {});
    });
    {
      auto counter = std::make_unique<std::atomic<int>>(0);
      const int takes = round % 10;
      for (int i = 0; i < takes; ++i) {
        stream->NotifyWhenReady([c = counter.get()] { c->fetch_add(1); });
        stream->TryNext();
      }
      stream->NotifyWhenReady([c = counter.get()] { c->fetch_add(1); });
      stream->Abandon();
      EXPECT_LE(counter->load(), takes + 1);
    }
    engine.join();
  }
}

TEST_F(StreamTest, BlockedReaderSeesEveryTokenInOrder) {
  constexpr int kTokens = 5000;
  std::thread engine([this] {
    for (int i = 0; i < kTokens; ++i) stream_->Append(Token(i), {});
    stream_->Append(End(FinishReason::kLength), {});
  });
  std::vector<TokenId> got;
  for (;;) {
    absl::StatusOr<StreamEvent> event = stream_->Next(absl::InfiniteFuture());
    ASSERT_TRUE(event.ok());
    for (TokenId id : Ids(*event)) got.push_back(id);
    if (event->finish != FinishReason::kNone) break;
  }
  engine.join();
  ASSERT_EQ(got.size(), static_cast<size_t>(kTokens));
  EXPECT_TRUE(std::is_sorted(got.begin(), got.end()));
}

}  // namespace
}  // namespace trireme::internal
