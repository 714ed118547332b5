// Loops, ramps and what they count, against a server that is a timer.
#include "server/loadgen/runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <numeric>
#include <set>

#include "server/loadgen/ramp.h"

namespace trireme::loadgen {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Answers each request with two token events, a millisecond apart, `delay` after it was sent.
class FakeClient final : public Client {
 public:
  FakeClient(boost::asio::io_context* io, milliseconds delay) : io_(io), delay_(delay) {}

  void Send(const Request& request, TimePoint intended, Done done) override {
    prompts.push_back(request.messages[0].content);
    most_in_flight = std::max(most_in_flight, ++in_flight_);
    Outcome outcome;
    outcome.intended = intended;
    outcome.sent = std::chrono::steady_clock::now();
    sent.push_back(intended);
    auto timer = std::make_shared<boost::asio::steady_timer>(*io_, delay_);
    timers_.insert(timer);
    timer->async_wait([this, timer, outcome, done](boost::system::error_code error) mutable {
      timers_.erase(timer);
      --in_flight_;
      const auto now = std::chrono::steady_clock::now();
      if (error) outcome.error = "cancelled";
      if (fail_every > 0 && static_cast<int>(sent.size()) % fail_every == 0) {
        outcome.error = "http_429";
        outcome.error_message = "full";
      }
      outcome.Token(now - milliseconds(1));
      outcome.Token(now);
      outcome.end = now;
      outcome.has_usage = true;
      outcome.usage = {.prompt_tokens = 10, .completion_tokens = 2};
      done(std::move(outcome));
    });
  }
  void CancelAll() override {
    for (const auto& timer : timers_) timer->cancel();
  }
  int64_t token_events() const override { return 0; }

  std::vector<std::string> prompts;
  std::vector<TimePoint> sent;  // intended times
  int most_in_flight = 0, fail_every = 0;

 private:
  boost::asio::io_context* const io_;
  const milliseconds delay_;
  int in_flight_ = 0;
  std::set<std::shared_ptr<boost::asio::steady_timer>> timers_;
};

class RunnerTest : public testing::Test {
 protected:
  void Make(milliseconds delay) {
    client_ = std::make_unique<FakeClient>(&io_, delay);
    runner_ = std::make_unique<Runner>(&io_, client_.get(), &workload_, nullptr);
  }
  boost::asio::io_context io_;
  Workload workload_ = *Workload::Make({}, 1);
  std::unique_ptr<FakeClient> client_;
  std::unique_ptr<Runner> runner_;
};

TEST_F(RunnerTest, AClosedLoopKeepsItsNumberInFlightAndEndsAfterItsRequests) {
  Make(milliseconds(1));
  const Summary summary = runner_->Run({.concurrency = 7, .requests = 50}, {});
  EXPECT_EQ(client_->most_in_flight, 7);
  EXPECT_EQ(summary.completed(), 50);
  EXPECT_EQ(summary.tokens_in(), 500);
  EXPECT_EQ(summary.tokens_out(), 100);
  EXPECT_EQ(summary.itl().count(), 50);
  EXPECT_EQ(std::set<std::string>(client_->prompts.begin(), client_->prompts.end()).size(), 50u);
}

TEST_F(RunnerTest, FewerRequestsThanConcurrencyAreAllThatIsSent) {
  Make(milliseconds(1));
  EXPECT_EQ(runner_->Run({.concurrency = 7, .requests = 3}, {}).completed(), 3);
}

TEST_F(RunnerTest, AnOpenLoopSendsOnScheduleHoweverSlowTheServer) {
  Make(milliseconds(200));
  const Level level{.rate = 1000, .arrivals = ArrivalKind::kConstant, .requests = 40};
  const Summary summary = runner_->Run(level, {});
  EXPECT_EQ(summary.completed(), 40);
  EXPECT_GT(client_->most_in_flight, 1);
  for (size_t i = 1; i < client_->sent.size(); ++i) {
    const auto gap = client_->sent[i] - client_->sent[i - 1];
    EXPECT_NEAR(static_cast<double>(gap.count()), 1e6, 2) << i;
  }
}

// The last answer of a run comes before the time of sending is over: the rest of it counts, too.
TEST_F(RunnerTest, RatesAreOfTheWholeTimeOfSending) {
  Make(milliseconds(1));
  const Level open{.rate = 10, .arrivals = ArrivalKind::kConstant, .duration = milliseconds(250)};
  const Summary summary = runner_->Run(open, {});
  EXPECT_EQ(summary.completed(), 3);  // at 0, 100 and 200 ms
  EXPECT_GE(summary.duration_s(), 0.25);
  const Level by_number{.rate = 10,
                        .arrivals = ArrivalKind::kConstant,
                        .requests = 1,
                        .duration = std::chrono::hours(1)};
  EXPECT_LT(runner_->Run(by_number, {}).duration_s(), 3600);
}

TEST_F(RunnerTest, WhatHasNoSlotWhenSendingEndsIsCountedAndNotSent) {
  Make(milliseconds(150));
  const Level level{.rate = 1000,
                    .arrivals = ArrivalKind::kConstant,
                    .max_in_flight = 2,
                    .duration = milliseconds(100)};
  const Summary summary = runner_->Run(level, {});
  EXPECT_EQ(summary.completed() + summary.failed(), 100);  // all that were due
  EXPECT_EQ(static_cast<int64_t>(client_->sent.size()), summary.completed());
  ASSERT_EQ(summary.errors().count(kNotSent), 1u);
  EXPECT_EQ(summary.errors().at(kNotSent).count, summary.failed());
  EXPECT_THAT(summary.errors().at(kNotSent).example, HasSubstr("98ms while 2 were in flight"));
  // The third, due after 2 ms, waited until the end at least.
  EXPECT_GE(summary.slot_wait().max_ns(), 98 * 1000000);
}

TEST_F(RunnerTest, RequestsThatWaitAreBounded) {
  Make(milliseconds(500));
  Level level{.rate = 1e6, .arrivals = ArrivalKind::kConstant, .max_in_flight = 1};
  level.requests = static_cast<int64_t>(kMaxWaiting) + 1000;
  level.duration = std::chrono::microseconds(level.requests);
  const Summary summary = runner_->Run(level, {});
  EXPECT_EQ(summary.completed(), 1);
  EXPECT_EQ(summary.errors().at(kNotSent).count, level.requests - 1);
  // The first of them found no room to wait in, long before the end.
  EXPECT_THAT(summary.errors().at(kNotSent).example, Not(HasSubstr("132ms")));
}

TEST_F(RunnerTest, AnInterruptedOpenLoopCountsWhatWasDue) {
  Make(milliseconds(100000));
  const Level level{.rate = 1000, .arrivals = ArrivalKind::kConstant, .max_in_flight = 3};
  boost::asio::steady_timer timer(io_, milliseconds(200));
  timer.async_wait([&](boost::system::error_code) { runner_->Stop(); });
  const Summary summary = runner_->Run(level, {});
  EXPECT_EQ(summary.errors().at("cancelled").count, 3);
  ASSERT_EQ(summary.errors().count(kNotSent), 1u);
  EXPECT_GT(summary.errors().at(kNotSent).count, 0);
}

// Coordinated omission is this: one request at a time, ten due at once, and only the service time
// reported.
TEST_F(RunnerTest, LatencyOfAnOpenLoopCountsTheWaitForASlot) {
  Make(milliseconds(20));
  const Level level{
      .rate = 1e6, .arrivals = ArrivalKind::kConstant, .max_in_flight = 1, .requests = 10};
  const Summary summary = runner_->Run(level, {});
  EXPECT_EQ(client_->most_in_flight, 1);
  EXPECT_GE(summary.e2e().max_ns(), 10 * 20 * 1000000 - 1000000);
  EXPECT_GE(summary.slot_wait().max_ns(), 9 * 20 * 1000000 - 1000000);
  // The wait for a slot is not the lateness of a timer.
  EXPECT_LT(summary.send_lag().PercentileNs(50), summary.slot_wait().PercentileNs(50));
  EXPECT_GE(summary.ttft().PercentileNs(50), 4.0 * 20 * 1000000);
}

TEST_F(RunnerTest, DurationEndsTheSendingNotTheAnswers) {
  Make(milliseconds(30));
  const Summary summary =
      runner_->Run({.concurrency = 2, .duration = std::chrono::milliseconds(50)}, {});
  EXPECT_EQ(summary.failed(), 0);
  EXPECT_GE(summary.completed(), 2);
  EXPECT_GE(summary.duration_s(), 0.03);
}

TEST_F(RunnerTest, ErrorsAreCountedByKindWithAnExample) {
  Make(milliseconds(1));
  client_->fail_every = 2;
  const Summary summary = runner_->Run({.requests = 10}, {.e2e = absl::Seconds(60)});
  EXPECT_EQ(summary.completed(), 5);
  EXPECT_EQ(summary.failed(), 5);
  ASSERT_EQ(summary.errors().count("http_429"), 1u);
  EXPECT_EQ(summary.errors().at("http_429").count, 5);
  EXPECT_EQ(summary.errors().at("http_429").example, "full");
  EXPECT_EQ(summary.good_share(), 0.5);
}

TEST_F(RunnerTest, GoodputCountsWhatMetEveryBound) {
  Make(milliseconds(5));
  EXPECT_EQ(runner_->Run({.requests = 4}, {.ttft = absl::Milliseconds(1)}).good(), 0);
  EXPECT_EQ(runner_->Run({.requests = 4}, {.itl = absl::Microseconds(900)}).good(), 0);
  const Slo all{absl::Seconds(60), absl::Seconds(60), absl::Seconds(60)};
  EXPECT_EQ(runner_->Run({.requests = 4}, all).good(), 4);
}

TEST_F(RunnerTest, StopCancelsWhatIsInFlightAndSendsNothingMore) {
  for (const bool open : {false, true}) {
    Make(milliseconds(open ? 100000 : 1));
    Level level{.concurrency = 3, .requests = 1000};
    if (open) level.rate = 1000;
    boost::asio::steady_timer timer(io_, milliseconds(20));
    timer.async_wait([&](boost::system::error_code) { runner_->Stop(); });
    const Summary summary = runner_->Run(level, {});
    EXPECT_LT(summary.completed() + summary.failed(), 1000);
    if (open) {
      EXPECT_GT(summary.errors().at("cancelled").count, 0);
    }
    EXPECT_EQ(runner_->Run(level, {}).completed(), 0);
  }
}

TEST_F(RunnerTest, TokenEventsFallIntoTheirSeconds) {
  Make(milliseconds(1));
  const Summary summary = runner_->Run({.requests = 5}, {});
  const auto& seconds = summary.token_events_by_second();
  EXPECT_EQ(std::accumulate(seconds.begin(), seconds.end(), int64_t{0}), 10);
}

// The loads that a ramp tries against a server whose goodput is a function of the load.
template <typename Goodput>
std::vector<double> Loads(Ramp* ramp, Goodput goodput) {
  std::vector<double> loads;
  do {
    loads.push_back(ramp->load());
  } while (ramp->Next(goodput(ramp->load()), 1));
  return loads;
}

TEST(RampTest, LevelsDoubleUntilGoodputStopsGrowingThenHalveTheDistance) {
  Ramp ramp(1, std::nullopt, 1000, "concurrency", true);
  EXPECT_THAT(Loads(&ramp, [](double load) { return std::min(load, 11.0) * 2; }),
              ElementsAre(1, 2, 4, 8, 16, 12, 14, 13));
  EXPECT_EQ(ramp.knee().load, 12);
  EXPECT_EQ(ramp.knee().goodput_per_s, 22);
  EXPECT_THAT(ramp.knee().reason, HasSubstr("at concurrency 13, for 8.3 % more load than at 12"));
}

TEST(RampTest, RatesAreHalvedAsFarAsItPays) {
  Ramp ramp(1, std::nullopt, 1000, "rate", false);
  EXPECT_THAT(Loads(&ramp, [](double load) { return std::min(load, 1.3); }),
              ElementsAre(1, 2, 1.5, 1.75, 1.625));
  EXPECT_EQ(ramp.knee().load, 1.5);  // where half of what was added came out
}

TEST(RampTest, StepsAreAdded) {
  Ramp ramp(2, 3, 1000, "rate", false);
  EXPECT_TRUE(ramp.Next(1, 1));
  EXPECT_EQ(ramp.load(), 5);
}

TEST(RampTest, SmallStepsOfALinearServerHaveNoKnee) {
  for (const double noise : {0.0, 0.05}) {
    Ramp ramp(1, 1, 1000, "concurrency", true);
    const auto goodput = [&](double load) {
      return load * (static_cast<int>(load) % 2 == 0 ? 1 + noise : 1 - noise);
    };
    EXPECT_EQ(Loads(&ramp, goodput).size(), static_cast<size_t>(kMaxLevels));
    EXPECT_EQ(ramp.knee().load, kMaxLevels);
    EXPECT_THAT(ramp.knee().reason, HasSubstr("still grew"));
  }
}

TEST(RampTest, SmallStepsFindTheKneeOfAServerThatSaturates) {
  for (const double noise : {0.0, 0.02}) {
    Ramp ramp(1, 1, 1000, "concurrency", true);
    Loads(&ramp, [&](double load) {
      return std::min(load, 8.0) * (static_cast<int>(load) % 2 == 0 ? 1 + noise : 1 - noise);
    });
    EXPECT_EQ(ramp.knee().load, 8) << ramp.knee().reason;
  }
}

TEST(RampTest, ABrokenSloEndsItBeforeTheLevel) {
  Ramp ramp(4, std::nullopt, 1000, "rate", false);
  EXPECT_TRUE(ramp.Next(4, 1));
  EXPECT_TRUE(ramp.Next(7, 0.89));  // at 8; then between
  while (ramp.Next(ramp.load(), 0.8)) {
  }
  EXPECT_EQ(ramp.knee().load, 4);
  EXPECT_THAT(ramp.knee().reason, HasSubstr("only 80.0 % of the requests at rate 4.5"));
}

TEST(RampTest, WithoutAnyGoodLevelThereIsNoKnee) {
  Ramp ramp(4, std::nullopt, 1000, "rate", false);
  EXPECT_FALSE(ramp.Next(0, 0));
  EXPECT_EQ(ramp.knee().load, 0);
}

TEST(RampTest, ItEndsEvenWhenGoodputGrowsForEver) {
  Ramp doubling(1, std::nullopt, 64, "rate", false);
  while (doubling.Next(doubling.load(), 1)) {
  }
  EXPECT_EQ(doubling.knee().load, 64);
  Ramp small(1, 0.01, 1e6, "rate", false);
  int levels = 1;
  for (double goodput = 1; small.Next(goodput, 1); goodput *= 2) ++levels;
  EXPECT_EQ(levels, kMaxLevels);
}

TEST(RampTest, StepsBelowOneStillRaiseAWholeNumber) {
  Ramp ramp(1, 0.25, 1000, "concurrency", true);
  EXPECT_TRUE(ramp.Next(1, 1));
  EXPECT_EQ(ramp.load(), 2);
}

}  // namespace
}  // namespace trireme::loadgen
