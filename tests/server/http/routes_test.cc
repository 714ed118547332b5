// What each route answers, to the byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <fstream>
#include <regex>

#include "runtime/base/strings.h"
#include "tests/server/http/test_server.h"

namespace trireme::http {
namespace {

using fakes::HttpAnswer;
using fakes::HttpClient;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

// Replaces what differs from run to run.
std::string Normalized(std::string text) {
  text = std::regex_replace(text, std::regex(R"("id":"(chatcmpl|cmpl)-[0-9a-f]{32}")"),
                            R"("id":"$1-ID")");
  text = std::regex_replace(text, std::regex(R"("created":[0-9]+)"), R"("created":0)");
  return std::regex_replace(text, std::regex("fp_[0-9a-f]{10}"), "fp_X");
}

std::string ErrorField(const HttpAnswer& answer, const char* field) {
  boost::json::error_code error;
  const boost::json::value body = boost::json::parse(answer.body, error);
  if (error || !body.is_object() || !body.as_object().contains("error")) return "no error body";
  const boost::json::object& fields = body.at("error").as_object();
  EXPECT_EQ(fields.size(), 4u) << answer.body;
  const boost::json::value& value = fields.at(field);
  return value.is_string() ? std::string(value.as_string()) : boost::json::serialize(value);
}

TEST(RoutesTest, ChatAnswersAsOpenAiDoes) {
  TestServer server;
  const HttpAnswer answer = HttpClient(server.port()).Post("/v1/chat/completions", ChatBody());
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.header("content-type"), "application/json");
  EXPECT_THAT(answer.header("x-request-id"), MatchesRegex("req_[0-9a-f]{32}"));
  EXPECT_THAT(answer.header("openai-processing-ms"), MatchesRegex("[0-9]+"));
  EXPECT_EQ(
      Normalized(answer.body),
      R"({"id":"chatcmpl-ID","object":"chat.completion","created":0,"model":"demo","system_fingerprint":"fp_X",)"
      R"("choices":[{"index":0,"message":{"role":"assistant","content":"Hello","refusal":null},)"
      R"("logprobs":null,"finish_reason":"stop"}],)"
      R"("usage":{"prompt_tokens":21,"completion_tokens":6,"total_tokens":27,)"
      R"("prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},)"
      R"("completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,)"
      R"("accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}})");
}

TEST(RoutesTest, AStreamIsOneChunkPerTokenWithTheUsageBeforeTheEnd) {
  TestServer server({.next = fakes::ScriptedExecutor::Script(Bytes("Hi"))});
  // One step at a time, so that no two tokens share a chunk.
  server.executor->CloseGate();
  HttpClient client(server.port());
  client.Send(
      HttpClient::Request("POST", "/v1/chat/completions",
                          ChatBody(R"("stream":true,"stream_options":{"include_usage":true})")));
  server.executor->WaitForBlockedStep();
  server.executor->AllowSteps(1);
  std::string first = client.ReadUntil("\n\n");
  server.executor->AllowSteps(1);
  std::string second = client.ReadUntil("\n\n");
  server.executor->OpenGate();
  const std::string rest = client.ReadUntil("0\r\n\r\n");
  EXPECT_THAT(first, HasSubstr("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(first, HasSubstr("Content-Type: text/event-stream"));
  const std::string prefix =
      R"(data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":0,"model":"demo","system_fingerprint":"fp_X","choices":[)";
  EXPECT_THAT(
      Normalized(first),
      HasSubstr(
          prefix +
          R"({"index":0,"delta":{"role":"assistant","content":"H","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null})"
          "\n\n"));
  EXPECT_THAT(
      Normalized(second),
      HasSubstr(
          prefix +
          R"({"index":0,"delta":{"content":"i"},"logprobs":null,"finish_reason":null}],"usage":null})"
          "\n\n"));
  EXPECT_THAT(
      Normalized(rest),
      HasSubstr(
          prefix +
          R"({"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"stop"}],"usage":null})"
          "\n\n" +
          prefix + R"(],"usage":{"prompt_tokens":21,"completion_tokens":3,)"));
  EXPECT_TRUE(rest.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n")) << rest;
}

TEST(RoutesTest, CompletionsTakeBatchesTokenIdsEchoAndLogprobs) {
  TestServer server({.next = fakes::ScriptedExecutor::Script(Bytes("xy"))});
  HttpClient client(server.port());
  const HttpAnswer batch =
      client.Post("/v1/completions", CompletionBody(R"(["a","b"])", R"("n":2)"));
  EXPECT_EQ(batch.status, 200) << batch.body;
  EXPECT_EQ(boost::json::parse(batch.body).at("choices").as_array().size(), 4u);
  const HttpAnswer echo = client.Post(
      "/v1/completions", CompletionBody("[97,98]", R"("echo":true,"logprobs":1,"max_tokens":1)"));
  const boost::json::value body = boost::json::parse(echo.body);
  const boost::json::value& choice = body.at("choices").at(0);
  EXPECT_EQ(choice.at("text").as_string(), "abx");
  EXPECT_EQ(boost::json::serialize(choice.at("logprobs").at("tokens")), R"(["a","b","x"])");
  EXPECT_TRUE(choice.at("logprobs").at("token_logprobs").at(0).is_null());
  EXPECT_EQ(boost::json::serialize(choice.at("logprobs").at("text_offset")), "[0,1,2]");
  EXPECT_EQ(choice.at("finish_reason").as_string(), "length");
}

TEST(RoutesTest, TextOffsetsPointIntoTheEchoedTextWhereItHasSpecialTokens) {
  TestServer server({.next = fakes::ScriptedExecutor::Script(Bytes("xy"))});
  const HttpAnswer answer =
      HttpClient(server.port())
          .Post("/v1/completions",
                CompletionBody("[257,97,258,98]", R"("echo":true,"logprobs":1,"max_tokens":1)"));
  ASSERT_EQ(answer.status, 200) << answer.body;
  const boost::json::value body = boost::json::parse(answer.body);
  const boost::json::value& choice = body.at("choices").at(0);
  const std::string_view text = choice.at("text").as_string();
  const boost::json::array& tokens = choice.at("logprobs").at("tokens").as_array();
  const boost::json::array& offsets = choice.at("logprobs").at("text_offset").as_array();
  ASSERT_EQ(tokens.size(), 5u);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto offset = static_cast<size_t>(offsets.at(i).as_int64());
    EXPECT_THAT(std::string(text.substr(offset)),
                testing::StartsWith(std::string(tokens.at(i).as_string())));
  }
}

TEST(RoutesTest, OneConnectionServesInfoRoutes) {
  TestServer server;
  HttpClient client(server.port());
  EXPECT_EQ(client.Get("/health").body, R"({"status":"ok"})");
  EXPECT_EQ(client.Get("/ready").body, R"({"status":"ready"})");
  EXPECT_EQ(client.Get("/version").body, R"({"version":"0.1.0"})");
  EXPECT_EQ(
      client.Get("/v1/models?limit=3").body,
      R"({"object":"list","data":[{"id":"demo","object":"model","created":1700000000,"owned_by":"trireme","root":"demo","parent":null,"max_model_len":2048},)"
      R"({"id":"org/demo-alias","object":"model","created":1700000000,"owned_by":"trireme","root":"demo","parent":null,"max_model_len":2048}]})");
  EXPECT_THAT(client.Get("/v1/models/org%2Fdemo-alias").body,
              HasSubstr(R"("id":"org/demo-alias")"));
  EXPECT_EQ(client.Get("/v1/models/org/demo-alias").status, 200);
  const HttpAnswer unknown = client.Get("/v1/models/gpt-4");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(ErrorField(unknown, "code"), "model_not_found");
  EXPECT_THAT(client.Get("/tokenizer_info").body, HasSubstr(R"("eos_token":"<|im_end|>")"));
  const std::string metrics = client.Get("/metrics").body;
  EXPECT_THAT(metrics,
              HasSubstr("vllm:num_requests_running{engine=\"0\",model_name=\"demo\"} 0\n"));
  EXPECT_THAT(metrics, HasSubstr(R"(route="/v1/models/{id}"} 1)"));
}

TEST(RoutesTest, HeadHasTheLengthButNoBody) {
  TestServer server;
  HttpClient client(server.port());
  client.Send(HttpClient::Request("HEAD", "/health", ""));
  const HttpAnswer head = client.Read(/*head_only=*/true);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.header("content-length"), "15");
  EXPECT_EQ(client.Get("/version").status, 200) << "the next answer follows at once";
}

TEST(RoutesTest, TokenizeAndDetokenizeSpeakVllm) {
  TestServer server;
  HttpClient client(server.port());
  EXPECT_EQ(
      client.Post("/tokenize", R"({"prompt":"ab<|im_end|>","return_token_strs":true})").body,
      R"({"count":3,"max_model_len":2048,"tokens":[97,98,257],"token_strs":["a","b","<|im_end|>"]})");
  EXPECT_THAT(client.Post("/tokenize", R"({"messages":[{"role":"user","content":"hi"}]})").body,
              HasSubstr(R"({"count":21,)"));
  EXPECT_EQ(client.Post("/detokenize", R"({"tokens":[97,98]})").body, R"({"prompt":"ab"})");
  const HttpAnswer bad = client.Post("/detokenize", R"({"tokens":[259]})");
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(ErrorField(bad, "param"), "tokens");
}

TEST(RoutesTest, EveryRefusalHasItsStatusParamAndCode) {
  TestServer server;
  struct Case {
    std::string body;
    int status;
    std::string param, code;
  };
  const Case cases[] = {
      {R"({"model":"gpt-4","messages":[{"role":"user","content":"x"}]})", 404, "model",
       "model_not_found"},
      {ChatBody(R"("n":0)"), 400, "n", "integer_below_min_value"},
      {ChatBody(R"("n":1000000)"), 400, "n", "integer_above_max_value"},
      {ChatBody(R"("max_tokens":-1)"), 400, "max_tokens", "integer_below_min_value"},
      {ChatBody(R"("max_completion_tokens":100000)"), 400, "max_completion_tokens",
       "context_length_exceeded"},
      {ChatBody(R"("temperature":2.5)"), 400, "temperature", "decimal_above_max_value"},
      {ChatBody(R"("logprobs":true,"top_logprobs":21)"), 400, "top_logprobs",
       "integer_above_max_value"},
      {ChatBody(R"("logit_bias":{"259":1})"), 400, "logit_bias", "invalid_token_id"},
      {ChatBody(R"("stop":["a","b","c","d","e"])"), 400, "stop", "array_above_max_length"},
      {ChatBody(R"("frobnicate":1)"), 400, "frobnicate", "unknown_parameter"},
      {"", 400, "null", "null"},
      {"[]", 400, "null", "null"},
  };
  HttpClient client(server.port());
  for (const Case& c : cases) {
    const HttpAnswer answer = client.Post("/v1/chat/completions", c.body);
    EXPECT_EQ(answer.status, c.status) << c.body << answer.body;
    EXPECT_EQ(ErrorField(answer, "param"), c.param) << c.body << answer.body;
    EXPECT_EQ(ErrorField(answer, "code"), c.code) << c.body << answer.body;
    EXPECT_EQ(ErrorField(answer, "type"), "invalid_request_error");
  }
  EXPECT_EQ(server.num_submitted(), 0u);
}

TEST(RoutesTest, ASaneRequestIdIsEchoedAndAnInsaneOneReplaced) {
  TestServer server;
  HttpClient client(server.port());
  EXPECT_EQ(client.Get("/health", "x-request-id: my-id.1\r\n").header("x-request-id"), "my-id.1");
  for (const std::string& bad :
       {std::string(129, 'a'), std::string("a b"), std::string("\xc3\xa9")}) {
    EXPECT_THAT(client.Get("/health", StrCat("x-request-id: ", bad, "\r\n")).header("x-request-id"),
                MatchesRegex("req_[0-9a-f]{32}"));
  }
}

class AuthTest : public testing::Test {
 protected:
  AuthTest() { std::ofstream(path_) << "open-sesame team-a\n"; }
  ~AuthTest() override { std::remove(path_.c_str()); }
  const std::string path_ = StrCat(testing::TempDir(), "trireme_http_keys_", getpid());
};

TEST_F(AuthTest, EveryRouteButLivenessNeedsAKey) {
  TestServer server({.key_file = path_});
  HttpClient client(server.port());
  EXPECT_EQ(client.Get("/health").status, 200);
  EXPECT_EQ(client.Get("/ready").status, 200);
  for (const char* path :
       {"/v1/models", "/metrics", "/version", "/nowhere", "/v1/chat/completions"}) {
    const HttpAnswer answer = client.Get(path);
    EXPECT_EQ(answer.status, 401) << path;
    EXPECT_EQ(ErrorField(answer, "code"), "invalid_api_key");
  }
  EXPECT_EQ(client.Get("/v1/models", "Authorization: Bearer wrong\r\n").status, 401);
  EXPECT_EQ(client.Get("/v1/models", "Authorization: Basic open-sesame\r\n").status, 401);
  EXPECT_EQ(client.Get("/v1/models", "Authorization: bearer open-sesame\r\n").status, 200);
  EXPECT_EQ(client.Get("/v1/models", "api-key: open-sesame\r\n").status, 200);
  std::ofstream(path_) << "rotated-key team-b\n";
  ASSERT_TRUE(server.keys->ReloadIfChanged());
  EXPECT_EQ(client.Get("/v1/models", "api-key: open-sesame\r\n").status, 401);
  EXPECT_EQ(client.Get("/v1/models", "api-key: rotated-key\r\n").status, 200);
}

TEST_F(AuthTest, AStrangersBodyIsNeverRead) {
  TestServer server({.key_file = path_});
  HttpClient client(server.port());
  client.Send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
  EXPECT_EQ(client.Read().status, 401);
  EXPECT_EQ(client.ReadToEnd(), "");
}

TEST_F(AuthTest, MetricsCanBeOpened) {
  TestServer server({.http = {.metrics_need_key = false}, .key_file = path_});
  EXPECT_EQ(HttpClient(server.port()).Get("/metrics").status, 200);
}

}  // namespace
}  // namespace trireme::http
