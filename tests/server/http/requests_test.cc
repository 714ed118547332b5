// GET /v1/requests and DELETE /v1/requests/{id}: what is in flight, and ending it at each stage.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <fstream>
#include <future>

#include "absl/time/clock.h"
#include "runtime/base/strings.h"
#include "tests/server/http/test_server.h"

namespace trireme::http {
namespace {

using fakes::HttpAnswer;
using fakes::HttpClient;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kLong[] = R"("max_tokens":2000)";
constexpr char kLongStream[] = R"("max_tokens":2000,"stream":true)";

boost::json::object List(int port, std::string_view headers = "") {
  const HttpAnswer answer = HttpClient(port).Get("/v1/requests", headers);
  EXPECT_EQ(answer.status, 200);
  return boost::json::parse(answer.body).as_object();
}
HttpAnswer Delete(int port, std::string_view id, std::string_view headers = "") {
  HttpClient client(port);
  client.Send(HttpClient::Request("DELETE", StrCat("/v1/requests/", id), "", headers));
  return client.Read();
}
std::string Ask(std::string_view id, std::string_view members, std::string_view headers = "") {
  return HttpClient::Request("POST", "/v1/completions", CompletionBody("\"x\"", members),
                             StrCat("x-request-id: ", id, "\r\n", headers));
}

TEST(RequestsTest, AStreamIsListedAndEndsWithAnErrorEventWhenCancelled) {
  TestServer server({.next = Endless()});
  server.executor->CloseGate();
  HttpClient client(server.port());
  client.Send(Ask("mine/1", kLongStream));
  server.executor->WaitForBlockedStep();
  EXPECT_EQ(List(server.port()).at("data").at(0).at("state").as_string(), "waiting");
  server.executor->AllowSteps(3);
  std::string seen = client.ReadUntil("\n\n");
  const boost::json::object list = List(server.port());
  ASSERT_EQ(list.at("total").as_int64(), 1);
  EXPECT_FALSE(list.at("has_more").as_bool());
  boost::json::object request = list.at("data").at(0).as_object();
  EXPECT_GE(request.at("age_ms").as_int64(), 0);
  EXPECT_GE(request.at("generated_tokens").as_int64(), 1);
  request.erase("age_ms");
  request.erase("generated_tokens");
  EXPECT_EQ(boost::json::serialize(request),
            R"({"id":"mine/1","object":"request","state":"generating","door":"http",)"
            R"("model":"demo","stream":true,"prompt_tokens":1})");
  const HttpAnswer cancelled = Delete(server.port(), "mine%2F1");
  EXPECT_EQ(cancelled.status, 200);
  EXPECT_EQ(cancelled.body, R"({"id":"mine/1","object":"request","cancelled":true})");
  seen += client.ReadToEnd();
  EXPECT_THAT(seen,
              HasSubstr(R"(data: {"error":{"message":"the request was cancelled",)"
                        R"("type":"invalid_request_error","param":null,"code":"cancelled"}})"));
  EXPECT_THAT(seen, Not(HasSubstr("[DONE]")));
  server.executor->OpenGate();
  client.Close();
  server.WaitUntilQuiet();
  EXPECT_EQ(List(server.port()).at("total").as_int64(), 0);
  EXPECT_EQ(Delete(server.port(), "mine%2F1").status, 404);
}

TEST(RequestsTest, AWholeAnswerBecomesAnErrorThatIsNotRetried) {
  TestServer server({.next = Endless()});
  server.executor->CloseGate();
  HttpClient client(server.port());
  client.Send(Ask("whole", kLong));
  server.executor->WaitForBlockedStep();
  EXPECT_EQ(Delete(server.port(), "whole").status, 200);
  const HttpAnswer answer = client.Read();
  EXPECT_EQ(answer.status, 499);
  EXPECT_THAT(answer.body, HasSubstr("\"code\":\"cancelled\""));
  EXPECT_EQ(answer.header("retry-after"), "");
  // The connection is as good as before.
  server.executor->OpenGate();
  EXPECT_EQ(client.Get("/health").status, 200);
  client.Close();
  server.WaitUntilQuiet();
}

TEST(RequestsTest, OneThatIsBeingPreparedNeverReachesTheEngine) {
  TestServer server({.worker_threads = 1});
  std::promise<void> release;
  ASSERT_TRUE(server.node.workers->TrySubmit([&] { release.get_future().wait(); }));
  HttpClient client(server.port());
  client.Send(Ask("early", kLong));
  while (List(server.port()).at("total").as_int64() == 0) absl::SleepFor(absl::Milliseconds(1));
  const boost::json::value request = List(server.port()).at("data").at(0);
  EXPECT_EQ(request.at("state").as_string(), "preparing");
  EXPECT_TRUE(request.at("model").is_null());
  EXPECT_EQ(Delete(server.port(), "early").status, 200);
  release.set_value();
  EXPECT_EQ(client.Read().status, 499);
  EXPECT_EQ(server.num_submitted(), 0u);
}

TEST(RequestsTest, AClientThatDoesNotReadHoldsNothingBackOnceItIsCancelled) {
  TestServerOptions options{.http = {.send_buffer_bytes = 4096}, .next = Endless()};
  options.engine.max_unread_tokens = 64;  // less than it would generate: it is paused
  TestServer server(std::move(options));
  HttpClient client(server.port(), /*receive_buffer_bytes=*/4096);
  client.Send(Ask("slow", R"("max_tokens":2000,"stream":true,"logprobs":20)"));
  server.WaitForSubmitted(1);
  EXPECT_EQ(Delete(server.port(), "slow").status, 200);
  server.node.engine->WaitIdleAndCheck();  // well before the write timeout
  EXPECT_EQ(server.node.engine->stats().cancelled, 1u);
  EXPECT_THAT(client.ReadToEnd(), HasSubstr("\"code\":\"cancelled\""));
}

TEST(RequestsTest, TheRoutesTakeTheirMethodsOnly) {
  TestServer server;
  HttpClient client(server.port());
  EXPECT_EQ(client.Get("/v1/requests").header("cache-control"), "no-store");
  EXPECT_EQ(HttpClient(server.port()).Post("/v1/requests", "{}").status, 405);
  const HttpAnswer get = client.Get("/v1/requests/any");
  EXPECT_EQ(get.status, 405);
  EXPECT_EQ(get.header("allow"), "DELETE");
  const HttpAnswer none = Delete(server.port(), "any");
  EXPECT_EQ(none.status, 404);
  EXPECT_THAT(none.body, HasSubstr("\"code\":\"request_not_found\""));
}

TEST(RequestsTest, ATenantNeitherSeesNorCancelsWhatIsAnothers) {
  const std::string path = StrCat(testing::TempDir(), "trireme_requests_keys_", getpid());
  std::ofstream(path) << "sk-a team-a\nsk-a2 team-a\nsk-b team-b\n";
  TestServer server({.key_file = path, .next = Endless()});
  unlink(path.c_str());
  const std::string a = "authorization: Bearer sk-a\r\n", b = "authorization: Bearer sk-b\r\n";
  server.executor->CloseGate();
  HttpClient client(server.port());
  client.Send(Ask("shared-id", kLongStream, a));
  server.executor->WaitForBlockedStep();
  EXPECT_EQ(HttpClient(server.port()).Get("/v1/requests").status, 401);
  EXPECT_EQ(List(server.port(), b).at("total").as_int64(), 0);
  EXPECT_EQ(Delete(server.port(), "shared-id", b).status, 404);
  EXPECT_EQ(Delete(server.port(), "shared-id").status, 401);
  EXPECT_EQ(List(server.port(), "api-key: sk-a2\r\n").at("total").as_int64(), 1);
  EXPECT_EQ(Delete(server.port(), "shared-id", "api-key: sk-a2\r\n").status, 200);
  EXPECT_EQ(client.Read().status, 499) << "nothing of the stream had been sent";
  server.executor->OpenGate();
  client.Close();
  server.WaitUntilQuiet();
}

}  // namespace
}  // namespace trireme::http
