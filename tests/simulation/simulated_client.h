// A client of the simulated engine: reads its stream as its habit is, and checks that what it gets
// is what its request yields alone.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/engine/engine.h"
#include "tests/fakes/simulated_device.h"

namespace trireme {

enum class Habit {
  kEager,    // reads after every step
  kLazy,     // now and then
  kDeaf,     // not at all while the chaos lasts
  kHangsUp,  // destroys the stream after some tokens
  kStops,    // has found its stop string after some tokens
};

class SimulatedClient {
 public:
  SimulatedClient(const GenerateRequest& request, const EngineOptions& options, Habit habit,
                  int patience)
      : habit(habit),
        priority(request.priority),
        max_steps(static_cast<int>(request.prompt.size()) + *request.max_tokens),
        patience_(patience),
        has_deadline_(request.deadline != absl::InfiniteFuture()) {
    Sequence sequence;
    sequence.tenant = request.tenant;
    sequence.tokens = request.prompt;
    sequence.num_prompt_tokens = static_cast<int>(request.prompt.size());
    sequence.limits.max_tokens = *request.max_tokens;
    sequence.limits.min_tokens = request.min_tokens;
    sequence.limits.stop_ids = request.stop_token_ids;
    if (!request.ignore_eos) {
      const std::vector<TokenId>& eos = options.limits.eos_ids;
      sequence.limits.stop_ids.insert(sequence.limits.stop_ids.end(), eos.begin(), eos.end());
    }
    std::tie(expected_, expected_finish_) = SoloRun(sequence, options.limits.max_context_tokens);
  }

  const Habit habit;
  const int priority;
  const int max_steps;                  // that it takes when each computes a token of it
  std::optional<RequestStream> stream;  // empty: the client has hung up
  FinishReason finish = FinishReason::kNone;

  bool waiting() const { return stream.has_value() && finish == FinishReason::kNone; }
  void Cancel() {
    cancelled_ = true;
    stream->Cancel();
  }
  void HangUp() { stream.reset(); }

  // Takes what has arrived; also after the end, when nothing may. `excused`: an end with an error
  // is known to have a cause.
  void Read(bool excused) {
    std::optional<StreamEvent> event = stream->TryNext();
    if (!event) return;
    ASSERT_EQ(finish, FinishReason::kNone) << "news after the end";
    for (const SampledToken& token : event->tokens) {
      ASSERT_LT(received_, expected_.size()) << "a token too many";
      ASSERT_EQ(token.id, expected_[received_]) << "not what the solo run gives";
      ++received_;
    }
    finish = event->finish;
    if (finish != FinishReason::kNone) return CheckEnd(*event, excused);
    if (static_cast<int>(received_) < patience_) return;
    if (habit == Habit::kHangsUp) HangUp();
    if (habit == Habit::kStops && !stopped_) {
      stopped_ = true;
      stream->Cancel(FinishReason::kStop);
    }
  }

 private:
  void CheckEnd(const StreamEvent& event, bool excused) {
    switch (finish) {
      case FinishReason::kCancelled:
        EXPECT_TRUE(cancelled_);
        break;
      case FinishReason::kDeadline:
        EXPECT_TRUE(has_deadline_);
        EXPECT_EQ(event.error.code(), absl::StatusCode::kDeadlineExceeded);
        break;
      case FinishReason::kError:
        EXPECT_FALSE(event.error.ok());
        EXPECT_TRUE(excused || (ErrorCode(event.error) == "slow_reader" && habit != Habit::kEager))
            << event.error;
        break;
      default:
        if (stopped_ && finish == FinishReason::kStop) break;  // wherever it was
        EXPECT_EQ(finish, expected_finish_);
        EXPECT_EQ(received_, expected_.size()) << "tokens are missing";
    }
  }

  const int patience_;  // tokens before it hangs up or stops
  const bool has_deadline_;
  std::vector<TokenId> expected_;
  FinishReason expected_finish_ = FinishReason::kNone;
  size_t received_ = 0;
  bool cancelled_ = false, stopped_ = false;
};

}  // namespace trireme
