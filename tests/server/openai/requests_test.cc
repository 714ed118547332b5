#include "server/dialects/openai/requests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme::openai {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

// A chat body with further members.
std::string Chat(std::string_view members) {
  return StrCat(R"({"model":"m","messages":[{"role":"user","content":"hi"}])",
                members.empty() ? "" : ",", members, "}");
}
std::string Completion(std::string_view members) {
  return StrCat(R"({"model":"m","prompt":"hi")", members.empty() ? "" : ",", members, "}");
}
OpenAiRequest ParseChat(std::string_view members) {
  auto request = ParseChatRequest(Chat(members), {});
  EXPECT_TRUE(request.ok()) << members << " " << request.status();
  return request.ok() ? *std::move(request) : OpenAiRequest();
}
OpenAiRequest ParseCompletion(std::string_view members) {
  auto request = ParseCompletionRequest(Completion(members), {});
  EXPECT_TRUE(request.ok()) << members << " " << request.status();
  return request.ok() ? *std::move(request) : OpenAiRequest();
}

TEST(ChatRequestTest, EverySamplingFieldArrives) {
  const OpenAiRequest request = ParseChat(
      R"("temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.05,"typical_p":0.8,
         "repetition_penalty":1.1,"presence_penalty":-1,"frequency_penalty":2,"seed":-1,
         "logit_bias":{"7":-100,"0":1.5},"logprobs":true,"top_logprobs":3,"n":2,"stop":["a","b"],
         "max_completion_tokens":9,"min_tokens":1,"ignore_eos":true,"stop_token_ids":[5,6],
         "include_stop_str_in_output":true,"skip_special_tokens":false,"priority":-3)");
  const SamplingParams& s = request.text.base.sampling;
  EXPECT_FLOAT_EQ(s.temperature, 0.5);
  EXPECT_FLOAT_EQ(s.top_p, 0.9);
  EXPECT_EQ(s.top_k, 40);
  EXPECT_FLOAT_EQ(s.min_p, 0.05);
  EXPECT_FLOAT_EQ(s.typical_p, 0.8);
  EXPECT_FLOAT_EQ(s.repetition_penalty, 1.1);
  EXPECT_FLOAT_EQ(s.presence_penalty, -1);
  EXPECT_FLOAT_EQ(s.frequency_penalty, 2);
  EXPECT_EQ(s.seed, 0xffffffffffffffffu);
  EXPECT_THAT(s.logit_bias, ElementsAre(Pair(7, -100.0f), Pair(0, 1.5f)));
  EXPECT_EQ(s.logprobs, 3);
  EXPECT_EQ(request.text.n, 2);
  EXPECT_THAT(request.text.stop, ElementsAre("a", "b"));
  EXPECT_EQ(request.text.base.max_tokens, 9);
  EXPECT_EQ(request.text.base.min_tokens, 1);
  EXPECT_TRUE(request.text.base.ignore_eos);
  EXPECT_THAT(request.text.base.stop_token_ids, ElementsAre(5, 6));
  EXPECT_TRUE(request.text.include_stop_in_output);
  EXPECT_FALSE(request.text.skip_special_tokens);
  EXPECT_EQ(request.text.base.priority, 3) << "lower runs first on the wire, higher inside";
}

TEST(ChatRequestTest, NullIsAbsentEverywhere) {
  const OpenAiRequest request = ParseChat(
      R"("temperature":null,"n":null,"stop":null,"stream":null,"stream_options":null,"tools":null,
         "logit_bias":null,"logprobs":null,"top_logprobs":null,"max_tokens":null,"seed":null,
         "response_format":null,"audio":null,"store":null,"prediction":null)");
  EXPECT_EQ(request.text.base.sampling.temperature, 1.0f);
  EXPECT_EQ(request.text.n, 1);
  EXPECT_FALSE(request.text.base.sampling.logprobs.has_value());
}

TEST(ChatRequestTest, WhatChangesNothingIsAccepted) {
  ParseChat(
      R"("user":"u","safety_identifier":"s","prompt_cache_key":"p","metadata":{"a":"b"},"store":false,
         "service_tier":"auto","modalities":["text"],"response_format":{"type":"text"},"tools":[],
         "tool_choice":"none","reasoning_effort":"none","verbosity":"medium","echo":false)");
}

TEST(ChatRequestTest, NodeDefaultsHoldUnlessOverridden) {
  SamplingParams defaults;
  defaults.temperature = 0.25f;
  defaults.top_k = 12;
  auto request = ParseChatRequest(Chat(R"("top_k":0)"), defaults);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->text.base.sampling.temperature, 0.25f);
  EXPECT_EQ(request->text.base.sampling.top_k, 0);
}

TEST(ChatRequestTest, MessagesComeOutAsTheTemplateSeesThem) {
  auto request = ParseChatRequest(
      R"({"model":"m","messages":[{"role":"developer","content":"be brief"},
          {"role":"user","name":"ann","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]},
          {"role":"assistant","content":"ok","refusal":null,"tool_calls":null,"annotations":[]}],
          "chat_template_kwargs":{"enable_thinking":false}})",
      {});
  ASSERT_TRUE(request.ok()) << request.status();
  const ChatPrompt& chat = std::get<ChatPrompt>(request->text.input);
  EXPECT_EQ(
      boost::json::serialize(chat.messages),
      R"([{"role":"system","content":"be brief"},)"
      R"({"role":"user","content":"one\ntwo","name":"ann"},{"role":"assistant","content":"ok"}])");
  EXPECT_EQ(boost::json::serialize(chat.template_kwargs), R"({"enable_thinking":false})");
  EXPECT_TRUE(chat.add_generation_prompt);
}

TEST(ChatRequestTest, ContinuingTheFinalMessageAddsNoGenerationPrompt) {
  const OpenAiRequest request = ParseChat(R"("continue_final_message":true)");
  EXPECT_FALSE(std::get<ChatPrompt>(request.text.input).add_generation_prompt);
}

TEST(ChatRequestTest, TheValidatorsParametersComeBackAsTheClientSpeltThem) {
  const OpenAiRequest request = ParseChat(R"("max_completion_tokens":1)");
  EXPECT_EQ(ErrorParam(request.InClientTerms(InvalidParam("max_tokens", "x"))),
            "max_completion_tokens");
  EXPECT_EQ(ErrorParam(request.InClientTerms(InvalidParam("logprobs", "x"))), "top_logprobs");
  EXPECT_EQ(ErrorParam(request.InClientTerms(InvalidParam("seed", "x"))), "seed");
}

TEST(CompletionRequestTest, PromptsTakeAllFourShapes) {
  const auto prompts = [](std::string_view json) {
    auto request = ParseCompletionRequest(StrCat(R"({"model":"m","prompt":)", json, "}"), {});
    EXPECT_TRUE(request.ok()) << json << request.status();
    return std::get<std::vector<TextPrompt>>(request->text.input);
  };
  EXPECT_THAT(prompts(R"("a")"), ElementsAre(TextPrompt("a")));
  EXPECT_THAT(prompts(R"(["a","b"])"), ElementsAre(TextPrompt("a"), TextPrompt("b")));
  EXPECT_THAT(prompts("[1,2]"), ElementsAre(TextPrompt(std::vector<TokenId>{1, 2})));
  EXPECT_THAT(prompts("[[1],[2,3]]"), ElementsAre(TextPrompt(std::vector<TokenId>{1}),
                                                  TextPrompt(std::vector<TokenId>{2, 3})));
}

TEST(CompletionRequestTest, DefaultsAndEchoWithLogprobs) {
  EXPECT_EQ(ParseCompletion("").text.base.max_tokens, 16);
  const OpenAiRequest request =
      ParseCompletion(R"("echo":true,"logprobs":1,"max_tokens":0,"best_of":3,"n":2,"suffix":"")");
  EXPECT_TRUE(request.text.echo);
  EXPECT_TRUE(request.text.base.sampling.prompt_logprobs);
  EXPECT_EQ(request.text.base.sampling.logprobs, 1);
  EXPECT_EQ(request.text.base.max_tokens, 0);
  EXPECT_EQ(request.text.best_of, 3);
}

TEST(TokenizeRequestTest, TextAndMessages) {
  auto text =
      ParseTokenizeRequest(R"({"prompt":"x","add_special_tokens":false,"return_token_strs":true})");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(std::get<std::string>(text->input), "x");
  EXPECT_FALSE(text->add_special_tokens);
  EXPECT_TRUE(text->return_token_strings);
  auto chat = ParseTokenizeRequest(R"({"messages":[{"role":"user","content":"x"}]})");
  ASSERT_TRUE(chat.ok());
  EXPECT_EQ(std::get<ChatPrompt>(chat->input).messages.size(), 1u);
  EXPECT_FALSE(ParseTokenizeRequest("{}").ok());
  EXPECT_FALSE(ParseDetokenizeRequest(R"({"tokens":[-1]})").ok());
  EXPECT_THAT(ParseDetokenizeRequest(R"({"tokens":[3,4]})")->tokens, ElementsAre(3, 4));
}

struct Bad {
  std::string members;
  std::string param;
  std::string code;
};
void PrintTo(const Bad& bad, std::ostream* out) { *out << bad.members; }

class BadChatTest : public testing::TestWithParam<Bad> {};
TEST_P(BadChatTest, IsRefusedWithParamAndCode) {
  auto request = ParseChatRequest(Chat(GetParam().members), {});
  ASSERT_FALSE(request.ok());
  EXPECT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ErrorParam(request.status()), GetParam().param) << request.status();
  EXPECT_EQ(ErrorCode(request.status()), GetParam().code) << request.status();
}
INSTANTIATE_TEST_SUITE_P(
    Table, BadChatTest,
    testing::Values(
        Bad{R"("temperature":"hot")", "temperature", "invalid_type"},
        Bad{R"("temperature":1e300)", "temperature", "decimal_above_max_value"},
        Bad{R"("n":1.0)", "n", "invalid_type"},
        Bad{R"("n":18446744073709551616)", "n", "invalid_type"},
        Bad{R"("max_tokens":4294967296)", "max_tokens", "integer_above_max_value"},
        Bad{R"("max_tokens":1,"max_completion_tokens":1)", "max_tokens", ""},
        Bad{R"("seed":9223372036854775808)", "seed", "invalid_type"},
        Bad{R"("stream":1)", "stream", "invalid_type"},
        Bad{R"("stream_options":{"include_usage":true})", "stream_options", ""},
        Bad{R"("stream":true,"stream_options":{"x":1})", "stream_options.x", "unknown_parameter"},
        Bad{R"("stop":[1])", "stop[0]", "invalid_type"},
        Bad{R"("stop":{})", "stop", "invalid_type"},
        Bad{R"("logit_bias":{"x":1})", "logit_bias", "invalid_value"},
        Bad{R"("logit_bias":{"01":1})", "logit_bias", "invalid_value"},
        Bad{R"("logit_bias":{"-1":1})", "logit_bias", "invalid_value"},
        Bad{R"("logit_bias":{"99999999999":1})", "logit_bias", "invalid_value"},
        Bad{R"("logit_bias":{"1":"x"})", "logit_bias.1", "invalid_type"},
        Bad{R"("stop_token_ids":[4294967296])", "stop_token_ids", ""},
        Bad{R"("top_logprobs":2)", "top_logprobs", ""},
        Bad{R"("tools":[{"type":"function"}])", "tools", "unsupported_parameter"},
        Bad{R"("tool_choice":"auto")", "tool_choice", "unsupported_value"},
        Bad{R"("tool_choice":{"type":"function"})", "tool_choice", "unsupported_value"},
        Bad{R"("parallel_tool_calls":true)", "parallel_tool_calls", "unsupported_parameter"},
        Bad{R"("functions":[])", "functions", "unsupported_parameter"},
        Bad{R"("function_call":"none")", "function_call", "unsupported_parameter"},
        Bad{R"("response_format":{"type":"json_object"})", "response_format.type",
            "unsupported_value"},
        Bad{R"("response_format":{})", "response_format.type", "missing_required_parameter"},
        Bad{R"("modalities":["text","audio"])", "modalities", "unsupported_value"},
        Bad{R"("audio":{})", "audio", "unsupported_parameter"},
        Bad{R"("prediction":{})", "prediction", "unsupported_parameter"},
        Bad{R"("web_search_options":{})", "web_search_options", "unsupported_parameter"},
        Bad{R"("reasoning_effort":"high")", "reasoning_effort", "unsupported_value"},
        Bad{R"("verbosity":"low")", "verbosity", "unsupported_value"},
        Bad{R"("store":true)", "store", "unsupported_value"},
        Bad{R"("service_tier":"flex")", "service_tier", "unsupported_value"},
        Bad{R"("metadata":{"a":1})", "metadata.a", "invalid_type"},
        Bad{R"("user":5)", "user", "invalid_type"},
        Bad{R"("echo":true)", "echo", "unsupported_value"},
        Bad{R"("best_of":2)", "best_of", "unknown_parameter"},
        Bad{R"("suffix":"x")", "suffix", "unknown_parameter"},
        Bad{R"("prompt_logprobs":1)", "prompt_logprobs", "unsupported_parameter"},
        Bad{R"("chat_template":"{{x}}")", "chat_template", "unsupported_parameter"},
        Bad{R"("chat_template_kwargs":[])", "chat_template_kwargs", "invalid_type"},
        Bad{R"("add_generation_prompt":true,"continue_final_message":true)",
            "add_generation_prompt", ""},
        Bad{R"("guided_json":{})", "guided_json", "unknown_parameter"},
        Bad{R"("":1)", "", "unknown_parameter"}));

struct BadMessages {
  std::string messages;
  std::string param;
};
void PrintTo(const BadMessages& bad, std::ostream* out) { *out << bad.messages; }
class BadMessagesTest : public testing::TestWithParam<BadMessages> {};
TEST_P(BadMessagesTest, AreRefusedAtTheirPlace) {
  auto request =
      ParseChatRequest(StrCat(R"({"model":"m","messages":)", GetParam().messages, "}"), {});
  ASSERT_FALSE(request.ok());
  EXPECT_EQ(ErrorParam(request.status()), GetParam().param) << request.status();
}
INSTANTIATE_TEST_SUITE_P(
    Table, BadMessagesTest,
    testing::Values(
        BadMessages{"null", "messages"}, BadMessages{"[]", "messages"},
        BadMessages{R"("hi")", "messages"}, BadMessages{R"(["hi"])", "messages[0]"},
        BadMessages{R"([{"content":"x"}])", "messages[0].role"},
        BadMessages{R"([{"role":"boss","content":"x"}])", "messages[0].role"},
        BadMessages{R"([{"role":"tool","content":"x","tool_call_id":"1"}])", "messages[0].role"},
        BadMessages{R"([{"role":"user"}])", "messages[0].content"},
        BadMessages{R"([{"role":"user","content":null}])", "messages[0].content"},
        BadMessages{R"([{"role":"user","content":5}])", "messages[0].content"},
        BadMessages{R"([{"role":"user","content":[]}])", "messages[0].content"},
        BadMessages{R"([{"role":"user","content":["x"]}])", "messages[0].content[0]"},
        BadMessages{
            R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}])",
            "messages[0].content[0].type"},
        BadMessages{R"([{"role":"user","content":[{"type":"text"}]}])",
                    "messages[0].content[0].text"},
        BadMessages{R"([{"role":"user","content":[{"type":"text","text":"x","y":1}]}])",
                    "messages[0].content[0].y"},
        BadMessages{R"([{"role":"user","content":"x"},{"role":"user","content":"x","z":1}])",
                    "messages[1].z"},
        BadMessages{R"([{"role":"assistant","content":"x","tool_calls":[{"id":"1"}]}])",
                    "messages[0].tool_calls"}));

class BadCompletionTest : public testing::TestWithParam<Bad> {};
TEST_P(BadCompletionTest, IsRefusedWithParamAndCode) {
  auto request = ParseCompletionRequest(StrCat(R"({"model":"m",)", GetParam().members, "}"), {});
  ASSERT_FALSE(request.ok());
  EXPECT_EQ(ErrorParam(request.status()), GetParam().param) << request.status();
  EXPECT_EQ(ErrorCode(request.status()), GetParam().code) << request.status();
}
INSTANTIATE_TEST_SUITE_P(
    Table, BadCompletionTest,
    testing::Values(Bad{R"("n":1)", "prompt", "missing_required_parameter"},
                    Bad{R"("prompt":[])", "prompt", "empty_array"},
                    Bad{R"("prompt":{})", "prompt", "invalid_type"},
                    Bad{R"("prompt":["a",1])", "prompt[1]", "invalid_type"},
                    Bad{R"("prompt":[1,"a"])", "prompt[1]", "invalid_type"},
                    Bad{R"("prompt":[[1],2])", "prompt[1]", "invalid_type"},
                    Bad{R"("prompt":[[1.5]])", "prompt[0][0]", "invalid_type"},
                    Bad{R"("prompt":[-1])", "prompt", ""},
                    Bad{R"("prompt":[null])", "prompt[0]", "invalid_type"},
                    Bad{R"("prompt":"x","suffix":"y")", "suffix", "unsupported_value"},
                    Bad{R"("prompt":"x","logprobs":true)", "logprobs", "invalid_type"},
                    Bad{R"("prompt":"x","stream":true,"best_of":2)", "best_of", ""},
                    Bad{R"("prompt":"x","messages":[])", "messages", "unknown_parameter"}));

class BadJsonTest : public testing::TestWithParam<std::string> {};
TEST_P(BadJsonTest, IsRefused) {
  auto request = ParseChatRequest(GetParam(), {});
  ASSERT_FALSE(request.ok());
  EXPECT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument);
}
std::string Repeat(std::string_view text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}
INSTANTIATE_TEST_SUITE_P(Table, BadJsonTest,
                         testing::Values("", " ", "{", R"({"model":"m")", R"({"model":"m"}x)", "[]",
                                         "null", "5", "\"x\"", R"({"model":NaN})",
                                         R"({"model":Infinity})", R"({"a":1,})", R"({'a':1})",
                                         "{\"model\":\"\xff\"}", "{\"model\":\"\xc0\xaf\"}",
                                         R"({"model":"\ud800"})", R"({"model":"\udc00"})",
                                         R"({"model":"m","model":"m"})",
                                         R"({"model":"m","metadata":{"a":"1","a":"2"}})",
                                         "{\"a\":\"\x01\"}", Repeat("[", 10000),
                                         Repeat("{\"a\":", 10000), "\xef\xbb\xbf{}"));

TEST(JsonBudgetTest, AMillionKeysAreRefusedByTheirNumber) {
  std::string body = "{";
  for (int i = 0; i < 1'000'000; ++i) StrAppend(&body, i == 0 ? "" : ",", "\"k", i, "\":1");
  body += "}";
  auto request = ParseChatRequest(body, {});
  ASSERT_FALSE(request.ok());
  EXPECT_THAT(std::string(request.status().message()), testing::HasSubstr("more than 100000 keys"));
}

TEST(JsonBudgetTest, ANumberBeyondADoubleIsRefusedWhereverItStands) {
  for (const std::string number : {"1e999", "-1e999", "0.1e999"}) {
    const auto request =
        ParseChatRequest(R"({"model":"m","messages":[{"role":"user","content":"a"}],)"
                         R"("chat_template_kwargs":{"x":[)" +
                             number + "]}}",
                         {});
    EXPECT_THAT(std::string(request.status().message()),
                testing::HasSubstr("a number is too large"));
  }
}

TEST(JsonBudgetTest, AClientsWordIsShortenedBetweenCodePoints) {
  auto request = ParseChatRequest(Chat(StrCat("\"x", Repeat("\xc3\xa9", 1000), "\":1")), {});
  EXPECT_EQ(ErrorParam(request.status()), StrCat("x", Repeat("\xc3\xa9", 31), "..."));
}

TEST(JsonBudgetTest, AClientsWordCannotBringControlCharactersIntoAMessage) {
  auto request = ParseChatRequest(R"({"model":"m","messages":[{"role":"a\u0000\nb"}]})", {});
  EXPECT_THAT(std::string(request.status().message()), testing::HasSubstr("'a\\x00\\nb'"));
}

TEST(JsonBudgetTest, TrailingWhitespaceAndDeepEnoughNestingAreFine) {
  EXPECT_TRUE(ParseChatRequest(Chat("") + " \r\n\t", {}).ok());
  const std::string nested = Repeat("[", 50) + Repeat("]", 50);
  EXPECT_TRUE(
      ParseChatRequest(Chat(StrCat("\"chat_template_kwargs\":{\"x\":", nested, "}")), {}).ok());
}

}  // namespace
}  // namespace trireme::openai
