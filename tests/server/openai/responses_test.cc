#include "server/dialects/openai/responses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <limits>

#include "runtime/base/json_writer.h"
#include "runtime/base/status.h"
#include "server/dialects/openai/errors.h"

namespace trireme::openai {
namespace {

const AnswerHeader kChatHeader = {
    .chat = true, .id = "chatcmpl-1", .created = 7, .model = "m", .system_fingerprint = "fp_1"};
const AnswerHeader kTextHeader = {
    .chat = false, .id = "cmpl-1", .created = 7, .model = "m", .system_fingerprint = "fp_1"};

constexpr char kUsageJson[] =
    R"("usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,)"
    R"("prompt_tokens_details":{"cached_tokens":1,"audio_tokens":0},)"
    R"("completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,)"
    R"("accepted_prediction_tokens":0,"rejected_prediction_tokens":0}})";
constexpr Usage kUsage = {.prompt_tokens = 3, .completion_tokens = 2, .cached_tokens = 1};

TokenText Token(TokenId id, std::string bytes, float logprob) {
  const auto begins = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  const auto num_chars = std::count_if(bytes.begin(), bytes.end(), begins);
  return {.bytes = std::move(bytes),
          .logprob = logprob,
          .id = id,
          .num_chars = static_cast<int>(num_chars)};
}

TEST(AnswerTest, ChatIsExactlyTheWireFormat) {
  AnswerBuilder answer(kChatHeader, 1, false);
  answer.Add({.index = 0, .text = "Hel"});
  answer.Add({.index = 0, .text = "lo\n\"", .finish = FinishReason::kStop});
  EXPECT_EQ(
      answer.Finish(kUsage),
      std::string(
          R"({"id":"chatcmpl-1","object":"chat.completion","created":7,"model":"m","system_fingerprint":"fp_1",)"
          R"("choices":[{"index":0,"message":{"role":"assistant","content":"Hello\n\"","refusal":null},)"
          R"("logprobs":null,"finish_reason":"stop"}],)") +
          kUsageJson + "}");
}

TEST(AnswerTest, CompletionsKeepTheOrderOfChoices) {
  AnswerBuilder answer(kTextHeader, 2, false);
  answer.Add({.index = 1, .text = "b", .finish = FinishReason::kLength});
  answer.Add({.index = 0, .text = "a", .finish = FinishReason::kStop});
  EXPECT_EQ(
      answer.Finish(kUsage),
      std::string(
          R"({"id":"cmpl-1","object":"text_completion","created":7,"model":"m","system_fingerprint":"fp_1",)"
          R"("choices":[{"index":0,"text":"a","logprobs":null,"finish_reason":"stop"},)"
          R"({"index":1,"text":"b","logprobs":null,"finish_reason":"length"}],)") +
          kUsageJson + "}");
}

TEST(ChunkTest, TheRoleComesWithTheFirstTokenOfEachChoice) {
  ChunkWriter chunks(kChatHeader, 2, false, false);
  std::string out;
  chunks.Append(&out, {.index = 1, .text = "x"});
  chunks.Append(&out, {.index = 1, .text = "y", .finish = FinishReason::kLength});
  const std::string prefix =
      R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp_1","choices":[)";
  EXPECT_EQ(
      out,
      prefix +
          R"({"index":1,"delta":{"role":"assistant","content":"x","refusal":null},"logprobs":null,"finish_reason":null}]})"
          "\n\n" +
          prefix +
          R"({"index":1,"delta":{"content":"y"},"logprobs":null,"finish_reason":"length"}]})"
          "\n\n");
}

// Chunks that bring text alone are cut from a mould of their choice.
TEST(ChunkTest, ChunksOfTextAloneAreThoseOfTheirChoice) {
  AnswerHeader header = kChatHeader;
  header.model = R"("content":"")";  // looks like the place of the text
  const std::string prefix =
      R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"\"content\":\"\"","system_fingerprint":"fp_1","choices":[)";
  ChunkWriter chunks(header, 2, false, true);
  std::string out;
  for (const int index : {0, 1}) chunks.Append(&out, {.index = index, .text = "first"});
  out.clear();
  chunks.Append(&out, {.index = 1, .text = "a \"b\"\n"});
  chunks.Append(&out, {.index = 0, .text = ""});
  chunks.Append(&out, {.index = 1, .text = "c"});
  const auto chunk = [&](int index, const char* text) {
    return prefix + R"({"index":)" + std::to_string(index) + R"(,"delta":{"content":)" + text +
           R"(},"logprobs":null,"finish_reason":null}],"usage":null})" + "\n\n";
  };
  EXPECT_EQ(out, chunk(1, R"("a \"b\"\n")") + chunk(0, R"("")") + chunk(1, R"("c")"));

  ChunkWriter completion(kTextHeader, 1, false, false);
  completion.Append(&out, {.text = "first"});
  out.clear();
  completion.Append(&out, {.text = "x"});
  EXPECT_THAT(out, testing::EndsWith(
                       R"("choices":[{"index":0,"text":"x","logprobs":null,"finish_reason":null}]})"
                       "\n\n"));
}

TEST(ChunkTest, WithUsageEveryChunkSaysNullAndTheLastHasNoChoices) {
  ChunkWriter chunks(kTextHeader, 1, false, true);
  std::string out;
  chunks.Append(&out, {.index = 0, .text = "x"});
  chunks.AppendUsageChunk(&out, kUsage);
  const std::string prefix =
      R"(data: {"id":"cmpl-1","object":"text_completion","created":7,"model":"m","system_fingerprint":"fp_1","choices":[)";
  EXPECT_EQ(out,
            prefix +
                R"({"index":0,"text":"x","logprobs":null,"finish_reason":null}],"usage":null})" +
                "\n\n" + prefix + "]," + kUsageJson + "}\n\n");
}

TEST(LogprobsTest, ChatShowsBytesAndReplacesWhatIsNoText) {
  TokenText token = Token(5, "\xe2\x82", -0.5f);
  token.top = {{"\xe2\x82", -0.5f}, {"a", -std::numeric_limits<float>::infinity()}};
  token.top_ids = {5, 6};
  std::string out;
  AppendChatLogprobs(&out, {token});
  EXPECT_EQ(out,
            "{\"content\":[{\"token\":\"\xef\xbf\xbd\",\"logprob\":-0.5,\"bytes\":[226,130],\"top_"
            "logprobs\":["
            "{\"token\":\"\xef\xbf\xbd\",\"logprob\":-0.5,\"bytes\":[226,130]},"
            "{\"token\":\"a\",\"logprob\":-9999,\"bytes\":[97]}]}],\"refusal\":null}");
}

TEST(LogprobsTest, CompletionsCountCodePointsAndIncludeTheChosenToken) {
  TokenText chosen = Token(9, "\xc3\xa9", -2.25f);  // not among the best
  chosen.top = {{"a", -0.125f}};
  chosen.top_ids = {1};
  TokenText best = Token(1, "a", -0.125f);
  best.top = {{"a", -0.125f}};
  best.top_ids = {1};
  int64_t offset = 0;
  std::string out;
  AppendCompletionLogprobs(&out, {}, {chosen, best}, &offset);
  EXPECT_EQ(
      out,
      "{\"tokens\":[\"\xc3\xa9\",\"a\"],\"token_logprobs\":[-2.25,-0.125],"
      "\"top_logprobs\":[{\"a\":-0.125,\"\xc3\xa9\":-2.25},{\"a\":-0.125}],\"text_offset\":[0,1]}");
  EXPECT_EQ(offset, 2);
}

TEST(LogprobsTest, AnEchoedPromptBeginsWithNullAndSplitCharactersKeepTheirBytes) {
  int64_t offset = 0;
  std::string out;
  AppendCompletionLogprobs(&out, {Token(1, "a", 0), Token(2, "\xe2\x82", -1)},
                           {Token(3, "\xac", -3)}, &offset);
  EXPECT_EQ(
      out,
      R"({"tokens":["a","bytes:\\xe2\\x82","bytes:\\xac"],"token_logprobs":[null,-1,-3],)"
      R"("top_logprobs":[null,{"bytes:\\xe2\\x82":-1},{"bytes:\\xac":-3}],"text_offset":[0,1,2]})");
}

TEST(LogprobsTest, TwoTokensOfOneTextGiveOneKeyWithTheChosenNumber) {
  TokenText token = Token(2, "a", -1.5f);
  token.top = {{"a", -0.5f}, {"a", -1.5f}};
  token.top_ids = {1, 2};
  int64_t offset = 0;
  std::string out;
  AppendCompletionLogprobs(&out, {}, {token}, &offset);
  EXPECT_THAT(out, testing::HasSubstr(R"("top_logprobs":[{"a":-1.5}])"));
}

TEST(ErrorsTest, AllFourKeysAlways) {
  EXPECT_EQ(
      ErrorBody(FromStatus(InvalidParam("n", "too \"many\"", "c"))),
      R"({"error":{"message":"too \"many\"","type":"invalid_request_error","param":"n","code":"c"}})");
  EXPECT_EQ(
      ErrorBody(HttpError(404, "no")),
      R"({"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}})");
}

TEST(ErrorsTest, EveryStatusHasItsHttpStatus) {
  const auto code = [](absl::Status status) { return FromStatus(status).http_status; };
  EXPECT_EQ(code(absl::InvalidArgumentError("x")), 400);
  EXPECT_EQ(code(absl::UnauthenticatedError("x")), 401);
  EXPECT_EQ(code(absl::NotFoundError("x")), 404);
  EXPECT_EQ(code(absl::ResourceExhaustedError("x")), 429);
  EXPECT_EQ(code(absl::UnavailableError("x")), 503);
  EXPECT_EQ(code(absl::DeadlineExceededError("x")), 504);
  EXPECT_EQ(code(absl::InternalError("x")), 500);
  EXPECT_EQ(code(absl::DataLossError("x")), 500);
  EXPECT_TRUE(IsRetryable(FromStatus(absl::ResourceExhaustedError("x"))));
  EXPECT_FALSE(IsRetryable(FromStatus(absl::InternalError("x"))));
}

TEST(ErrorsTest, AnInternalErrorTellsTheClientNothingOfItsCause) {
  EXPECT_THAT(ErrorBody(FromStatus(absl::InternalError("/secret/path"))),
              testing::Not(testing::HasSubstr("secret")));
}

TEST(JsonWriterTest, StringsReadBackEqualWhateverTheyHold) {
  std::string all;
  for (int c = 0; c < 0x80; ++c) all += static_cast<char>(c);
  all += "\xc3\xa9\xf0\x9f\x98\x80\xe2\x80\xa8";
  std::string out;
  JsonWriter(&out).String(all);
  EXPECT_EQ(std::string_view(boost::json::parse(out).as_string()), all);
}

TEST(JsonWriterTest, FloatsReadBackEqual) {
  for (const float f : {0.1f, -1e-30f, 3.4e38f, 1.0f, -0.0f, 1.17549435e-38f}) {
    std::string out;
    JsonWriter(&out).Float(f);
    EXPECT_EQ(boost::json::parse(out).to_number<float>(), f) << out;
  }
  std::string out;
  JsonWriter(&out).BeginArray().Float(std::numeric_limits<float>::quiet_NaN()).EndArray();
  EXPECT_EQ(out, "[0]");
}

}  // namespace
}  // namespace trireme::openai
