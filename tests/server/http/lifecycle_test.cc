// What happens when clients vanish, stall or wait, and when the server goes away. After each: no
// connection, no request, no KV block is left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <future>
#include <thread>

#include "runtime/base/strings.h"
#include "tests/server/http/test_server.h"

namespace trireme::http {
namespace {

using fakes::HttpAnswer;
using fakes::HttpClient;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

std::string PostBytes(std::string_view body) {
  return HttpClient::Request("POST", "/v1/completions", body);
}
std::string Long(bool stream) {
  return CompletionBody("\"x\"",
                        stream ? R"("max_tokens":1000,"stream":true)" : R"("max_tokens":1000)");
}

TEST(KeepAliveTest, PipelinedRequestsAreAnsweredInOrder) {
  TestServer server;
  HttpClient client(server.port());
  client.Send(PostBytes(CompletionBody("\"a\"", R"("echo":true)")) +
              PostBytes(CompletionBody("\"b\"", R"("echo":true,"stream":true)")) +
              PostBytes(CompletionBody("\"c\"", R"("echo":true)")));
  EXPECT_THAT(client.Read().body, HasSubstr("\"text\":\"aHello\""));
  EXPECT_THAT(client.Read().body, HasSubstr("\"text\":\"bH"));
  EXPECT_THAT(client.Read().body, HasSubstr("\"text\":\"cHello\""));
  client.Close();
  server.WaitUntilQuiet();
}

TEST(KeepAliveTest, CloseIsHonouredAndHttp10EndsAStreamByClosing) {
  TestServer server;
  HttpClient close(server.port());
  EXPECT_EQ(close.Get("/health", "Connection: close\r\n").header("connection"), "close");
  EXPECT_EQ(close.ReadToEnd(), "");
  HttpClient old(server.port());
  const std::string body = CompletionBody("\"x\"", R"("stream":true)");
  old.Send(
      StrCat("POST /v1/completions HTTP/1.0\r\nContent-Length: ", body.size(), "\r\n\r\n", body));
  const std::string all = old.ReadToEnd();
  EXPECT_THAT(all, HasSubstr("Connection: close\r\n"));
  EXPECT_THAT(all, Not(HasSubstr("chunked")));
  EXPECT_THAT(all, EndsWith("data: [DONE]\n\n"));
}

// How a client leaves.
enum class Leave { kClose, kReset };
class DisconnectTest : public testing::TestWithParam<std::tuple<Leave, bool>> {
 protected:
  static void Do(HttpClient& client) {
    std::get<0>(GetParam()) == Leave::kClose ? client.Close() : client.Reset();
  }
  static bool stream() { return std::get<1>(GetParam()); }
};

TEST_P(DisconnectTest, WhileDecodingCancelsWithinTwoSteps) {
  TestServer server({.next = Endless()});
  server.executor->CloseGate();
  HttpClient client(server.port());
  client.Send(PostBytes(Long(stream())));
  server.executor->WaitForBlockedStep();
  server.executor->AllowSteps(3);
  server.executor->WaitForBlockedStep();
  if (stream()) client.ReadUntil("\n\n");
  Do(client);
  server.WaitForConnections(0);
  const int steps = server.executor->num_steps();
  server.executor->OpenGate();
  server.WaitUntilQuiet();
  EXPECT_LE(server.executor->num_steps(), steps + 2);
}

TEST_P(DisconnectTest, WhileQueuedNeverRuns) {
  TestServerOptions options{.next = Endless()};
  options.engine.scheduler.max_running = 1;
  TestServer server(std::move(options));
  server.executor->CloseGate();
  HttpClient running(server.port());
  running.Send(PostBytes(Long(true)));
  server.executor->WaitForBlockedStep();
  HttpClient queued(server.port());
  queued.Send(PostBytes(Long(stream())));
  server.WaitForSubmitted(2);
  Do(queued);
  server.WaitForConnections(1);
  running.Close();
  server.WaitForConnections(0);
  server.executor->OpenGate();
  server.WaitUntilQuiet();
  EXPECT_FALSE(server.executor->saw(2));
}

INSTANTIATE_TEST_SUITE_P(Ways, DisconnectTest,
                         testing::Combine(testing::Values(Leave::kClose, Leave::kReset),
                                          testing::Bool()));

// Counts what it renders: nothing of any chat.
class CountingTemplate final : public ChatTemplate {
 public:
  explicit CountingTemplate(std::atomic<int>* count) : count_(count) {}
  absl::StatusOr<RenderedPrompt> Render(const ChatTemplateInputs&) const override {
    ++*count_;
    return RenderedPrompt{.text = "x"};
  }
  const std::string& source() const override { return source_; }

 private:
  std::atomic<int>* const count_;
  const std::string source_;
};

TEST(AbandonedTest, ARequestWhoseClientHasGoneIsNotPrepared) {
  TestServer server({.worker_threads = 1});
  std::atomic<int> rendered = 0;
  server.node.chat_template = std::make_unique<CountingTemplate>(&rendered);
  std::promise<void> release;
  ASSERT_TRUE(server.node.workers->TrySubmit([&] { release.get_future().wait(); }));
  HttpClient client(server.port());
  client.Send(HttpClient::Request("POST", "/v1/chat/completions", ChatBody()));
  // The one io thread has seen what happened before an answer to somebody else.
  EXPECT_EQ(HttpClient(server.port()).Get("/health").status, 200);
  client.Reset();
  EXPECT_EQ(HttpClient(server.port()).Get("/health").status, 200);
  release.set_value();
  server.WaitUntilQuiet();
  EXPECT_EQ(rendered, 0);
  EXPECT_EQ(server.num_submitted(), 0u);
  EXPECT_THAT(server.metrics.Render(),
              HasSubstr("trireme_http_requests_total{code=\"499\",method=\"POST\","
                        "route=\"/v1/chat/completions\"} 1"));
}

class HalfCloseTest : public testing::TestWithParam<bool> {};
TEST_P(HalfCloseTest, IsServedToTheEnd) {
  TestServer server;
  server.executor->CloseGate();
  HttpClient client(server.port());
  const std::string stream = GetParam() ? R"("stream":true)" : "";
  client.Send(PostBytes(CompletionBody("\"x\"", stream)));
  client.ShutdownSend();
  server.executor->WaitForBlockedStep();
  if (!GetParam()) {
    EXPECT_EQ(client.ReadUntil(" "), "HTTP/1.1 ") << "sent ahead, to see who is there";
  }
  server.executor->OpenGate();
  const std::string rest = client.ReadToEnd();
  EXPECT_THAT(rest, HasSubstr("200 OK\r\n"));
  EXPECT_THAT(rest, HasSubstr(GetParam() ? "data: [DONE]\n\n" : "\"text\":\"Hello\""));
  server.WaitUntilQuiet();
}
INSTANTIATE_TEST_SUITE_P(WholeAndStream, HalfCloseTest, testing::Bool());

TEST(HalfCloseProbeTest, NewsThatComeWhileTheProbeIsWrittenAreNotLost) {
  TestServer server;
  for (int i = 0; i < 1000; ++i) {  // the probe races with the answer
    HttpClient client(server.port());
    client.Send(PostBytes(CompletionBody("\"x\"")));
    client.ShutdownSend();
    ASSERT_THAT(client.ReadToEnd(), HasSubstr("\"text\":\"Hello\"")) << i;
  }
  server.WaitUntilQuiet();
}

TEST(SlowReaderTest, IsDroppedWhenItMakesNoProgress) {
  TestServer server({.http = {.send_buffer_bytes = 4096, .write_timeout = absl::Milliseconds(100)},
                     .next = Endless()});
  HttpClient client(server.port(), /*receive_buffer_bytes=*/4096);
  client.Send(
      PostBytes(CompletionBody("\"x\"", R"("max_tokens":2000,"stream":true,"logprobs":20)")));
  server.WaitForSubmitted(1);
  server.WaitUntilQuiet();
  EXPECT_THAT(client.ReadToEnd(), Not(HasSubstr("[DONE]")));
}

TEST(SlowReaderTest, ThatReadsInTheEndGetsEveryToken) {
  TestServer server({.http = {.send_buffer_bytes = 4096}, .next = Endless()});
  HttpClient slow(server.port(), /*receive_buffer_bytes=*/4096);
  const std::string body = CompletionBody("\"x\"", R"("max_tokens":2000,"stream":true)");
  slow.Send(PostBytes(body));
  // Another one is not held up by it.
  EXPECT_EQ(HttpClient(server.port()).Post("/v1/completions", CompletionBody("\"y\"")).status, 200);
  const auto text_of = [](const std::string& events) {
    std::string text;
    for (size_t at = 0; (at = events.find("\"text\":\"", at)) != std::string::npos;) {
      at += 8;
      text += events.substr(at, events.find('"', at) - at);
    }
    return text;
  };
  const std::vector<TokenId> expected =
      fakes::ScriptedExecutor::Expected(Endless(), Bytes("x", /*end=*/false), 2000);
  EXPECT_EQ(text_of(slow.Read().body), std::string(expected.begin(), expected.end()));
}

TEST(HeartbeatTest, ALongPrefillIsCommentedOn) {
  TestServer server({.http = {.heartbeat = absl::Milliseconds(10)}});
  server.executor->CloseGate();
  HttpClient client(server.port());
  client.Send(PostBytes(CompletionBody("\"x\"", R"("stream":true)")));
  EXPECT_THAT(client.ReadUntil(": ping\n\n"), HasSubstr("200 OK"));
  client.ReadUntil(": ping\n\n");
  server.executor->OpenGate();
  EXPECT_THAT(client.ReadUntil("0\r\n\r\n"), HasSubstr("data: [DONE]\n\n"));
}

TEST(OverloadTest, IsRefusedAtOnceWithRetryAfter) {
  TestServerOptions options{.next = Endless()};
  options.engine.scheduler.max_running = 1;
  options.engine.scheduler.max_waiting_requests = 2;
  options.engine.max_inbox = 2;
  TestServer server(std::move(options));
  server.executor->CloseGate();
  std::deque<HttpClient> clients;
  for (uint64_t i = 1; i <= 8; ++i) {
    clients.emplace_back(server.port()).Send(PostBytes(Long(false)));
    server.WaitForSubmitted(i);
  }
  const HttpAnswer answer = clients.back().Read();
  EXPECT_EQ(answer.status, 429);
  EXPECT_EQ(answer.header("retry-after"), "1");
  EXPECT_EQ(answer.header("x-should-retry"), "true");
  EXPECT_THAT(answer.body, HasSubstr(R"("code":"overloaded")"));
  for (HttpClient& client : clients) client.Close();
  server.WaitForConnections(0);
  server.executor->OpenGate();
  server.WaitUntilQuiet();
}

TEST(OverloadTest, AnAnswerTellsTheRoomInTheQueue) {
  TestServerOptions options;
  options.engine.scheduler.max_waiting_requests = 7;
  options.engine.scheduler.max_waiting_prompt_tokens = 900;
  TestServer server(std::move(options));
  HttpClient client(server.port());
  const HttpAnswer answer = client.Post("/v1/completions", CompletionBody("\"x\""));
  EXPECT_EQ(answer.status, 200);
  for (const auto& [what, limit] : {std::pair("requests", "7"), {"tokens", "900"}}) {
    EXPECT_EQ(answer.header(StrCat("x-ratelimit-limit-", what)), limit);
    EXPECT_EQ(answer.header(StrCat("x-ratelimit-remaining-", what)), limit);
    EXPECT_EQ(answer.header(StrCat("x-ratelimit-reset-", what)), "0ms");
  }
  EXPECT_EQ(client.Get("/health").header("x-ratelimit-limit-requests"), "");
}

TEST(OverloadTest, ABusyWorkerPoolIsRefusedAsAFullQueueIs) {
  TestServer server({.worker_threads = 1});
  std::promise<void> busy, release;
  const std::shared_future<void> released = release.get_future().share();
  ASSERT_TRUE(server.node.workers->TrySubmit([&busy, released] {
    busy.set_value();
    released.wait();
  }));
  busy.get_future().wait();  // the only worker has taken it: what follows stays in the queue
  while (server.node.workers->TrySubmit([] {})) {
  }
  for (const auto& [path, body] : {std::pair("/v1/completions", CompletionBody("\"x\"")),
                                   {"/v1/chat/completions", ChatBody()},
                                   {"/tokenize", std::string(R"({"prompt":"x"})")}}) {
    const HttpAnswer answer = HttpClient(server.port()).Post(path, body);
    EXPECT_EQ(answer.status, 429) << path;
    EXPECT_EQ(answer.header("retry-after"), "1");
    EXPECT_THAT(answer.body, HasSubstr(R"("code":"overloaded")"));
  }
  release.set_value();
}

TEST(FailureTest, BeforeTheFirstTokenIsAnAnswerAndAfterItAnEvent) {
  TestServer server({.next = Endless()});
  server.executor->CloseGate();
  HttpClient stream(server.port()), whole(server.port());
  stream.Send(PostBytes(Long(true)));
  server.executor->WaitForBlockedStep();
  server.executor->AllowSteps(2);
  EXPECT_THAT(stream.ReadUntil("\n\n"), HasSubstr("200 OK"));
  whole.Send(PostBytes(Long(false)));
  server.WaitForSubmitted(2);
  server.executor->LoseDevice(absl::InternalError("device lost at /dev/secret"));
  server.executor->OpenGate();
  const std::string events = stream.ReadToEnd();
  EXPECT_THAT(events, HasSubstr(R"(data: {"error":{"message":)"));
  EXPECT_THAT(events, Not(HasSubstr("[DONE]")));
  EXPECT_THAT(events, Not(HasSubstr("secret")));
  EXPECT_GE(whole.Read().status, 500);
  const HttpAnswer ready = HttpClient(server.port()).Get("/ready");
  EXPECT_EQ(ready.status, 503);
  EXPECT_THAT(ready.body, HasSubstr(R"("code":"device_lost")"));
  EXPECT_EQ(HttpClient(server.port()).Get("/health").status, 200);
}

TEST(ConnectionLimitTest, TheNextOneWaitsUntilAnotherHasGone) {
  TestServer server({.http = {.max_connections = 2}});
  HttpClient first(server.port()), second(server.port());
  EXPECT_EQ(first.Get("/health").status, 200);
  EXPECT_EQ(second.Get("/health").status, 200);
  HttpClient third(server.port());
  third.Send(HttpClient::Request("GET", "/health", ""));
  EXPECT_EQ(first.Get("/health").status, 200);
  EXPECT_EQ(server.server->num_connections(), 2);
  first.Close();
  EXPECT_EQ(third.Read().status, 200);
}

TEST(LoadingTest, WhatNeedsAModelIsRefusedUntilThereIsOne) {
  TestServer server({.loaded = false});
  HttpClient client(server.port());
  EXPECT_EQ(client.Get("/health").status, 200);
  EXPECT_EQ(client.Get("/version").status, 200);
  EXPECT_EQ(client.Get("/metrics").status, 200);
  EXPECT_EQ(client.Get("/").status, 200);
  EXPECT_EQ(client.Get("/nothing").status, 404);
  EXPECT_EQ(client.Get("/v1/completions").status, 405);
  for (const char* path : {"/ready", "/v1/models", "/v1/requests", "/tokenizer_info"}) {
    const auto answer = client.Get(path);
    EXPECT_EQ(answer.status, 503) << path;
    EXPECT_THAT(answer.body, HasSubstr(R"("code":"loading")")) << path;
    EXPECT_EQ(answer.header("retry-after"), "1") << path;
  }
  HttpClient poster(server.port());
  poster.Send(PostBytes(CompletionBody("\"x\"")));
  EXPECT_THAT(poster.ReadToEnd(), HasSubstr(R"("code":"loading")")) << "its body is not waited for";
  server.server->SetNode(&server.node);
  EXPECT_EQ(client.Get("/ready").status, 200) << "on the same connection";
  EXPECT_EQ(client.Get("/v1/models").status, 200);
}

TEST(LoadingTest, ADoorWithoutAModelShutsDown) {
  TestServer server({.loaded = false});
  HttpClient idle(server.port());
  EXPECT_EQ(idle.Get("/ready").status, 503);
  server.server->Shutdown(absl::InfiniteFuture());
  EXPECT_EQ(idle.ReadToEnd(), "");
}

TEST(DrainTest, UnreadyFirstThenIdleConnectionsCloseAndStreamsFinish) {
  TestServer server;
  server.server->SetServing(false);
  HttpClient idle(server.port());
  EXPECT_EQ(idle.Get("/ready").status, 503);
  EXPECT_EQ(idle.Get("/health").status, 200);
  server.executor->CloseGate();
  HttpClient busy(server.port());
  busy.Send(PostBytes(CompletionBody("\"x\"", R"("stream":true)")));
  server.executor->WaitForBlockedStep();
  std::thread shutdown([&] { server.server->Shutdown(absl::InfiniteFuture()); });
  EXPECT_EQ(idle.ReadToEnd(), "");
  EXPECT_FALSE(HttpClient(server.port()).connected());
  server.executor->OpenGate();
  const std::string answer = busy.ReadToEnd();
  EXPECT_THAT(answer, HasSubstr("Connection: close\r\n"));
  EXPECT_THAT(answer, HasSubstr("data: [DONE]\n\n"));
  shutdown.join();
  server.WaitUntilQuiet();
}

TEST(DrainTest, OneWordSaysItWhateverIsAsked) {
  TestServer server({.next = Endless()});
  server.executor->CloseGate();
  HttpClient busy(server.port()), client(server.port());
  busy.Send(PostBytes(Long(true)));
  server.executor->WaitForBlockedStep();
  server.server->SetServing(false);
  EXPECT_THAT(client.Get("/ready").body, HasSubstr(R"("code":"draining")")) << "unready first";
  std::thread drain([&] { server.node.engine->Drain(absl::InfiniteFuture()); });
  while (server.node.engine->accepting().ok()) absl::SleepFor(absl::Milliseconds(1));
  for (const HttpAnswer& answer :
       {client.Get("/ready"), client.Post("/v1/completions", CompletionBody("\"x\""))}) {
    EXPECT_EQ(answer.status, 503);
    EXPECT_THAT(answer.body, HasSubstr(R"("code":"draining")"));
  }
  busy.Close();
  server.executor->OpenGate();
  drain.join();
}

TEST(DrainTest, PastTheDeadlineEveryRequestIsTold) {
  TestServer server({.next = Endless()});
  server.executor->CloseGate();
  HttpClient stream(server.port()), whole(server.port());
  stream.Send(PostBytes(Long(true)));
  server.executor->WaitForBlockedStep();
  server.executor->AllowSteps(1);
  EXPECT_THAT(stream.ReadUntil("\n\n"), HasSubstr("200 OK"));
  whole.Send(PostBytes(Long(false)));
  server.WaitForSubmitted(2);
  server.server->Shutdown(absl::InfinitePast());
  const std::string events = stream.ReadToEnd();
  EXPECT_THAT(events, HasSubstr(R"(data: {"error":{"message":"the server is shutting down")"));
  EXPECT_THAT(events, HasSubstr(R"("code":"shutting_down")"));
  EXPECT_THAT(events, Not(HasSubstr("[DONE]")));
  const HttpAnswer answer = whole.Read();
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.header("x-should-retry"), "true");
  server.executor->OpenGate();
  server.WaitUntilQuiet();
}

TEST(ConcurrencyTest, SixtyFourStreamsWithCancelsAreEachTheirSoloRun) {
  TestServer server({.http = {.io_threads = 2}, .next = Endless()});
  const auto run = [&](int i) {
    const std::string prompt(static_cast<size_t>(1 + i % 7), static_cast<char>('a' + i % 26));
    const int count = 20 + i;
    HttpClient client(server.port());
    client.Send(
        PostBytes(CompletionBody(StrCat("\"", prompt, "\""), StrCat("\"max_tokens\":", count))));
    if (i % 4 == 3) return client.Reset();
    const std::vector<TokenId> expected =
        fakes::ScriptedExecutor::Expected(Endless(), Bytes(prompt, /*end=*/false), count);
    EXPECT_THAT(
        client.Read().body,
        HasSubstr(StrCat("\"text\":\"", std::string(expected.begin(), expected.end()), "\"")));
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = t; i < 64; i += 8) run(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
  server.WaitUntilQuiet();
}

TEST(StartTest, WrongCertificatesAreRefused) {
  TestServer server;
  const auto start = [&](const HttpServerOptions& options) {
    return HttpServer::Start(options, BoundPort::Bind("127.0.0.1", 0).value(), server.node.clock,
                             server.keys.get(), &server.telemetry)
        .status()
        .code();
  };
  EXPECT_EQ(start({.tls_cert_pem = "x"}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(start({.tls_key_pem = "y"}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(start({.tls_cert_pem = "x", .tls_key_pem = "y"}), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace trireme::http
