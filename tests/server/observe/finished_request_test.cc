#include "server/observe/finished_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/dialects/openai/errors.h"
#include "server/observe/access_log.h"
#include "tests/server/observe/finished_requests.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using Outcome = FinishedRequest::Outcome;

boost::json::object AccessLine(const FinishedRequest& request) {
  std::string line;
  AppendAccessLine(request, &line);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  return boost::json::parse(line).as_object();
}

TEST(FinishedRequestTest, OutcomesAreToldApart) {
  FinishedRequest request = Chat();
  EXPECT_EQ(request.outcome(), Outcome::kOk);
  request.error_code = "server_error";  // the last event of a stream
  EXPECT_EQ(request.outcome(), Outcome::kFailed);
  request.error_code = "cancelled";
  EXPECT_EQ(request.outcome(), Outcome::kCancelled);
  request.error_code = "";
  request.client_gone = true;
  EXPECT_EQ(request.outcome(), Outcome::kClientGone);
  request.client_gone = false;
  request.http_status = 429;
  EXPECT_EQ(request.outcome(), Outcome::kRefused);
  request.http_status = 503;
  EXPECT_EQ(request.outcome(), Outcome::kFailed);

  request.door = FinishedRequest::Door::kGrpc;
  EXPECT_EQ(request.outcome(), Outcome::kOk);
  request.grpc_code = absl::StatusCode::kCancelled;
  EXPECT_EQ(request.outcome(), Outcome::kClientGone);
  request.grpc_code = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(request.outcome(), Outcome::kRefused);
  request.grpc_code = absl::StatusCode::kDeadlineExceeded;
  EXPECT_EQ(request.outcome(), Outcome::kFailed);
}

// As Exchange::NoteError and CallRecord::End fill the record.
FinishedRequest ThroughHttp(const absl::Status& status, bool stream_had_begun) {
  FinishedRequest request = Chat();
  const openai::ApiError error = openai::FromStatus(status);
  request.http_status = stream_had_begun ? 200 : error.http_status;
  request.error_code = error.code.empty() ? error.type : error.code;
  return request;
}
FinishedRequest ThroughGrpc(const absl::Status& status) {
  FinishedRequest request = Chat();
  request.door = FinishedRequest::Door::kGrpc;
  request.grpc_code = status.code();
  request.error_code = ErrorCode(status);
  return request;
}

TEST(FinishedRequestTest, TheSameEndHasTheSameOutcomeThroughBothDoors) {
  const auto coded = [](absl::Status status, const char* code) {
    return WithCode(std::move(status), code);
  };
  const struct {
    absl::Status status;
    Outcome outcome;
    bool may_end_a_stream;
  } kEnds[] = {
      {absl::InvalidArgumentError("x"), Outcome::kRefused, false},
      {absl::OutOfRangeError("x"), Outcome::kRefused, false},
      {absl::FailedPreconditionError("x"), Outcome::kRefused, false},
      {absl::NotFoundError("x"), Outcome::kRefused, false},
      {absl::PermissionDeniedError("x"), Outcome::kRefused, false},
      {coded(absl::UnauthenticatedError("x"), "invalid_api_key"), Outcome::kRefused, false},
      {coded(absl::ResourceExhaustedError("x"), "overloaded"), Outcome::kRefused, true},
      {coded(absl::ResourceExhaustedError("x"), "slow_reader"), Outcome::kClientGone, true},
      {coded(absl::CancelledError("x"), "cancelled"), Outcome::kCancelled, true},
      {coded(absl::UnavailableError("x"), "draining"), Outcome::kFailed, false},
      {coded(absl::UnavailableError("x"), "shutting_down"), Outcome::kFailed, true},
      {absl::DeadlineExceededError("x"), Outcome::kFailed, true},
      {absl::UnimplementedError("x"), Outcome::kFailed, false},
      {absl::InternalError("x"), Outcome::kFailed, true},
      {absl::UnknownError("x"), Outcome::kFailed, true},
  };
  for (const auto& end : kEnds) {
    const std::string name = StrCat(end.status.ToString(), " ", ErrorCode(end.status));
    EXPECT_EQ(ThroughGrpc(end.status).outcome(), end.outcome) << name;
    EXPECT_EQ(ThroughHttp(end.status, false).outcome(), end.outcome) << name;
    if (!end.may_end_a_stream) continue;
    EXPECT_EQ(ThroughHttp(end.status, true).outcome(), end.outcome) << name << " in a stream";
  }
}

TEST(FinishedRequestTest, IdsThatAreMadeUpDoNotRepeat) {
  const std::string one = RandomId("grpc-"), other = RandomId("grpc-");
  EXPECT_TRUE(one.starts_with("grpc-"));
  EXPECT_EQ(one.size(), 5u + 32u);
  EXPECT_NE(one, other);
}

TEST(FinishedRequestTest, PhasesEndWhereTheRequestWasLeft) {
  const auto names_and_seconds = [](const FinishedRequest& request) {
    std::vector<std::pair<std::string_view, int64_t>> out;
    absl::Time last = request.begin;
    for (const auto& phase : request.phases()) {
      EXPECT_EQ(phase.begin, last);
      EXPECT_LE(phase.end, request.end);
      last = phase.end;
      out.emplace_back(phase.name, absl::ToInt64Seconds(phase.end - phase.begin));
    }
    return out;
  };
  using Pair = std::pair<std::string_view, int64_t>;
  FinishedRequest request = Chat();
  EXPECT_THAT(names_and_seconds(request),
              ElementsAre(Pair("queue", 1), Pair("prefill", 2), Pair("decode", 3)));
  // The client left after 5 seconds: the engine went on for a moment.
  request.end = request.begin + absl::Seconds(5);
  EXPECT_THAT(names_and_seconds(request),
              ElementsAre(Pair("queue", 1), Pair("prefill", 2), Pair("decode", 2)));
  // In prefill, in the queue, and before it.
  request.work.first_token = request.work.last_token = request.work.finished = absl::Time();
  EXPECT_THAT(names_and_seconds(request), ElementsAre(Pair("queue", 1), Pair("prefill", 4)));
  request.work.first_scheduled = absl::Time();
  EXPECT_THAT(names_and_seconds(request), ElementsAre(Pair("queue", 5)));
  request.model = "";
  EXPECT_TRUE(request.phases().empty());
}

TEST(FinishedRequestTest, AddressesBecomeKinds) {
  for (const char* address : {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1",
                              "ipv4:127.0.0.1:5000", "ipv6:%5B::1%5D:5000", "ipv6:[::1]:5000"}) {
    EXPECT_EQ(PeerKind(address), "loopback") << address;
  }
  for (const char* address : {"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
                              "169.254.1.1", "fd00::1", "fe80::1%eth0", "ipv4:10.1.2.3:80"}) {
    EXPECT_EQ(PeerKind(address), "private") << address;
  }
  for (const char* address : {"8.8.8.8", "172.32.0.1", "2001:db8::1", "ipv6:%5B2001:db8::1%5D:1"}) {
    EXPECT_EQ(PeerKind(address), "public") << address;
  }
  for (const char* address : {"", "unix:/run/x", "ipv4:", "999.1.1.1"}) {
    EXPECT_EQ(PeerKind(address), "other") << address;
  }
}

TEST(AccessLogTest, ALineHasTheRequestsTimesAndCounts) {
  FinishedRequest request = Chat();
  request.finish_reasons = {FinishReason::kLength, FinishReason::kStop, FinishReason::kStop};
  boost::json::object line = AccessLine(request);
  EXPECT_EQ(line.at("time").as_string(), "2023-11-14T22:13:20.000000Z");
  EXPECT_EQ(line.at("queue_ms").to_number<double>(), 1000);
  EXPECT_EQ(line.at("ttft_ms").to_number<double>(), 3000);
  EXPECT_EQ(line.at("total_ms").to_number<double>(), 7000);
  EXPECT_EQ(line.at("cached_tokens").as_int64(), 8);
  EXPECT_EQ(line.at("finish_reason").as_string(), "stop,length");
  EXPECT_FALSE(line.contains("trace_id"));
  request.end = request.begin + absl::Microseconds(1234);
  EXPECT_EQ(AccessLine(request).at("total_ms").to_number<double>(), 1.234);
}

TEST(AccessLogTest, AHostileRequestIdStaysInItsString) {
  FinishedRequest request = Chat();
  request.id = "\",\"status\":500}\n{\"x\":\"";
  EXPECT_EQ(AccessLine(request).at("request_id").as_string(), request.id);
}

}  // namespace
}  // namespace trireme
