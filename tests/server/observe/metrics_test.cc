#include "server/observe/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace trireme {
namespace {

using ::testing::HasSubstr;

RequestRecord Finished(FinishReason reason) {
  const absl::Time start = absl::FromUnixSeconds(1000);
  return {.arrival = start,
          .first_scheduled = start + absl::Seconds(1),
          .first_token = start + absl::Seconds(3),
          .finished = start + absl::Seconds(7),
          .prompt_tokens = 12,
          .generated_tokens = 5,
          .finish = reason};
}

TEST(MetricsTest, ARequestAppearsUnderBothNamesWithModelAndEngine) {
  Metrics metrics("demo");
  metrics.OnFirstToken(absl::Seconds(3));
  metrics.OnToken(absl::Milliseconds(20));
  metrics.OnStep(
      {.begin = absl::UnixEpoch(), .end = absl::UnixEpoch() + absl::Milliseconds(5), .tokens = 17});
  metrics.OnFinish(Finished(FinishReason::kStop));
  const std::string text = metrics.Render();
  const std::string labels = R"({engine="0",model_name="demo"})";
  for (const std::string& line : {std::string("request_queue_time_seconds_sum") + labels + " 1\n",
                                  "request_prefill_time_seconds_sum" + labels + " 2\n",
                                  "request_decode_time_seconds_sum" + labels + " 4\n",
                                  "request_inference_time_seconds_sum" + labels + " 6\n",
                                  "e2e_request_latency_seconds_sum" + labels + " 7\n",
                                  "time_to_first_token_seconds_count" + labels + " 1\n",
                                  "inter_token_latency_seconds_count" + labels + " 1\n",
                                  "request_prompt_tokens_sum" + labels + " 12\n",
                                  "request_generation_tokens_sum" + labels + " 5\n",
                                  "iteration_tokens_total_sum" + labels + " 17\n"}) {
    EXPECT_THAT(text, HasSubstr("vllm:" + line));
  }
  EXPECT_THAT(text, HasSubstr("trireme_request_latency_seconds_sum" + labels + " 7\n"));
  EXPECT_THAT(
      text,
      HasSubstr(
          "vllm:request_success_total{engine=\"0\",model_name=\"demo\",finished_reason=\"stop\"} "
          "1\n"));
}

TEST(MetricsTest, EveryFinishReasonHasItsSeriesFromTheStart) {
  const std::string text = Metrics("demo").Render();
  for (const char* reason : {"stop", "length", "abort", "timeout", "error"}) {
    EXPECT_THAT(text, HasSubstr(std::string("finished_reason=\"") + reason + "\"} 0\n"));
  }
}

TEST(MetricsTest, ARequestThatNeverRanHasNoStageSamples) {
  Metrics metrics("demo");
  RequestRecord record = Finished(FinishReason::kCancelled);
  record.first_scheduled = record.first_token = absl::Time();
  record.generated_tokens = 0;
  metrics.OnFinish(record);
  const std::string text = metrics.Render();
  const std::string zero = R"(_count{engine="0",model_name="demo"} 0)";
  EXPECT_THAT(text, HasSubstr("trireme_request_queue_seconds" + zero));
  EXPECT_THAT(text, HasSubstr("trireme_request_prefill_seconds" + zero));
  EXPECT_THAT(text, HasSubstr("trireme_request_decode_seconds" + zero));
}

TEST(MetricsTest, RequestsAreCountedByRouteMethodAndCode) {
  Metrics metrics("demo");
  metrics.CountHttp("/v1/models", "GET", 200, absl::Milliseconds(1));
  metrics.CountHttp("/v1/models", "GET", 200, absl::Milliseconds(1));
  metrics.CountGrpc("Generate", "OK", absl::Milliseconds(1));
  metrics.AddHttpConnections(2);
  metrics.AddHttpConnections(-1);
  const std::string text = metrics.Render();
  EXPECT_THAT(
      text,
      HasSubstr(R"(trireme_http_requests_total{code="200",method="GET",route="/v1/models"} 2)"));
  EXPECT_THAT(text, HasSubstr(R"(trireme_grpc_requests_total{code="OK",method="Generate"} 1)"));
  EXPECT_THAT(text, HasSubstr("trireme_http_connections 1\n"));
}

TEST(MetricsTest, ScrapingWhileCountingLosesNothing) {
  Metrics metrics("demo");
  std::thread counting([&] {
    for (int i = 0; i < 2000; ++i) {
      metrics.OnToken(absl::Milliseconds(1));
      metrics.CountHttp("/v1/models", "GET", 200, absl::Milliseconds(1));
    }
  });
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(metrics.Render().empty());
  counting.join();
  const std::string text = metrics.Render();
  EXPECT_THAT(
      text,
      HasSubstr("vllm:inter_token_latency_seconds_count{engine=\"0\",model_name=\"demo\"} 2000\n"));
  EXPECT_THAT(text, HasSubstr(R"(route="/v1/models"} 2000)"));
}

}  // namespace
}  // namespace trireme
