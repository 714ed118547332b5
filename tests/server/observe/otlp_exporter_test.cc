#include "server/observe/otlp_exporter.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>

#include "runtime/base/log.h"
#include "tests/server/observe/finished_requests.h"

namespace trireme {
namespace {

// A collector as a test wants it.
class FakeSender final : public OtlpSender {
 public:
  using Answerer = std::function<OtlpAnswer(int post)>;
  explicit FakeSender(Answerer post) : post_(std::move(post)) {}
  OtlpAnswer Post(const std::string&) override { return post_(++posts_); }
  void GiveUpAt(Time) override {}

 private:
  const Answerer post_;
  int posts_ = 0;
};

class OtlpExporterTest : public testing::Test {
 protected:
  OtlpExporterTest() { ConfigureLog(LogLevel::kError, LogFormat::kText); }

  std::unique_ptr<OtlpExporter> Start(FakeSender::Answerer post) {
    const OtlpOptions options = {
        .url = "http://x", .max_queued = 4, .max_batch = 1, .delay = absl::ZeroDuration()};
    return std::make_unique<OtlpExporter>(
        options, [dropped = dropped_](int64_t requests) { *dropped += requests; },
        std::make_unique<FakeSender>(std::move(post)));
  }
  void Export(OtlpExporter& exporter, int requests) {
    for (int i = 0; i < requests; ++i) exporter.OnRequest(Shared(Chat()));
  }

  const std::shared_ptr<std::atomic<int64_t>> dropped_ = std::make_shared<std::atomic<int64_t>>(0);
};

TEST_F(OtlpExporterTest, ATransferThatNothingEndsIsLeftBehindAndCounted) {
  auto entered = std::make_shared<std::promise<void>>();
  auto never = std::make_shared<std::promise<void>>();
  auto exporter = Start([entered, never](int) {
    entered->set_value();
    never->get_future().wait();  // as a resolver that nobody answers, until the process ends
    return OtlpAnswer{.status = 200};
  });
  Export(*exporter, 1);
  entered->get_future().wait();
  Export(*exporter, 3);
  exporter->Close(absl::ZeroDuration());  // returns
  exporter.reset();
  EXPECT_EQ(*dropped_, 4) << "three in the queue, one in hand";
}

TEST_F(OtlpExporterTest, WhoAsksForPatienceIsLeftAloneAndTheQueueDecidesWhatIsLost) {
  std::promise<void> posted;
  std::atomic<int> posts = 0;
  auto exporter = Start([&](int post) {
    posts = post;
    if (post == 1) posted.set_value();
    return OtlpAnswer{.status = 429, .retry_after = std::chrono::hours(1)};
  });
  Export(*exporter, 1);
  posted.get_future().wait();
  Export(*exporter, 10);  // the queue holds four
  EXPECT_EQ(*dropped_, 6);
  exporter->Close(absl::ZeroDuration());
  EXPECT_EQ(posts, 1) << "neither the batch again nor the next one";
  EXPECT_EQ(*dropped_, 11);
}

TEST_F(OtlpExporterTest, ABatchThatWaitedIsSentOnce) {
  std::atomic<int> posts = 0;
  auto exporter = Start([&](int post) {
    posts = post;
    return post == 1 ? OtlpAnswer{.status = 503, .retry_after = std::chrono::seconds(1)}
                     : OtlpAnswer{.status = 200};
  });
  Export(*exporter, 1);
  exporter->Close(absl::Minutes(5));
  EXPECT_EQ(posts, 2);
  EXPECT_EQ(*dropped_, 0);
}

TEST_F(OtlpExporterTest, WhatIsRefusedForGoodIsNotSentAgain) {
  std::atomic<int> posts = 0;
  auto exporter = Start([&](int post) {
    posts = post;
    return OtlpAnswer{.status = 400};
  });
  Export(*exporter, 2);
  exporter->Close(absl::Minutes(5));
  EXPECT_EQ(posts, 2);
  EXPECT_EQ(*dropped_, 2);
}

}  // namespace
}  // namespace trireme
