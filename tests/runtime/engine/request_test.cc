#include "runtime/engine/request.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "runtime/base/status.h"

namespace trireme {
namespace {

constexpr int kVocab = 100;
constexpr int kContext = 64;
const RequestLimits kLimits = {
    .vocab_size = kVocab, .max_context_tokens = kContext, .eos_ids = {2}};

GenerateRequest Valid() {
  GenerateRequest request;
  request.prompt = {1, 5, kVocab - 1};
  request.max_tokens = 10;
  return request;
}

struct Case {
  const char* name;
  std::function<void(GenerateRequest&)> change;
  const char* param;  // empty: accepted
  const char* code = "";
};

class ValidateRequestTest : public testing::TestWithParam<Case> {};

TEST_P(ValidateRequestTest, NamesTheParameterAndTheReason) {
  GenerateRequest request = Valid();
  GetParam().change(request);
  const absl::Status status = ValidateRequest(request, kLimits);
  EXPECT_EQ(status.ok(), GetParam().param[0] == '\0') << status;
  EXPECT_EQ(ErrorParam(status), GetParam().param) << status;
  EXPECT_EQ(ErrorCode(status), GetParam().code) << status;
  if (!status.ok()) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  }
}

std::vector<std::pair<TokenId, float>> Bans(int count) {
  std::vector<std::pair<TokenId, float>> bans;
  for (TokenId id = 0; id < count; ++id) bans.emplace_back(id, kBanBias);
  return bans;
}

const float kNan = std::numeric_limits<float>::quiet_NaN();
const float kInf = std::numeric_limits<float>::infinity();
constexpr char kLow[] = "decimal_below_min_value", kHigh[] = "decimal_above_max_value";
constexpr char kIntLow[] = "integer_below_min_value", kIntHigh[] = "integer_above_max_value";
constexpr char kToken[] = "invalid_token_id", kTooLong[] = "context_length_exceeded";

using R = GenerateRequest;
INSTANTIATE_TEST_SUITE_P(
    , ValidateRequestTest,
    testing::ValuesIn(std::vector<Case>{
        {"Defaults", [](R&) {}, ""},
        {"NoPrompt", [](R& r) { r.prompt.clear(); }, "prompt", "empty_array"},
        {"NegativePromptId", [](R& r) { r.prompt[1] = -1; }, "prompt", kToken},
        {"PromptIdAtVocab", [](R& r) { r.prompt[2] = kVocab; }, "prompt", kToken},

        {"PromptOneShortOfContext",
         [](R& r) { r.prompt.assign(kContext - 1, 1), r.max_tokens = 1; }, ""},
        {"PromptOneShortUnlimited",
         [](R& r) { r.prompt.assign(kContext - 1, 1), r.max_tokens.reset(); }, ""},
        {"PromptFillsContext", [](R& r) { r.prompt.assign(kContext, 1), r.max_tokens.reset(); },
         "prompt", kTooLong},
        {"PromptFillsContextForPrefillOnly",
         [](R& r) { r.prompt.assign(kContext, 1), r.max_tokens = 0; }, ""},
        {"PromptOverContext", [](R& r) { r.prompt.assign(kContext + 1, 1), r.max_tokens = 0; },
         "prompt", kTooLong},
        {"SumAtContext", [](R& r) { r.max_tokens = kContext - 3; }, ""},
        {"SumOverContext", [](R& r) { r.max_tokens = kContext - 2; }, "max_tokens", kTooLong},
        {"HugeMaxTokens", [](R& r) { r.max_tokens = std::numeric_limits<int>::max(); },
         "max_tokens", kTooLong},
        {"NegativeMaxTokens", [](R& r) { r.max_tokens = -1; }, "max_tokens", kIntLow},
        {"MinTokensAtMax", [](R& r) { r.min_tokens = 10; }, ""},
        {"MinTokensOverMax", [](R& r) { r.min_tokens = 11; }, "min_tokens", kIntHigh},
        {"NegativeMinTokens", [](R& r) { r.min_tokens = -1; }, "min_tokens", kIntLow},

        {"TemperatureZero", [](R& r) { r.sampling.temperature = 0; }, ""},
        {"TemperatureTwo", [](R& r) { r.sampling.temperature = 2; }, ""},
        {"TemperatureNegative", [](R& r) { r.sampling.temperature = -0.01f; }, "temperature", kLow},
        {"TemperatureHigh", [](R& r) { r.sampling.temperature = 2.01f; }, "temperature", kHigh},
        {"TemperatureNan", [](R& r) { r.sampling.temperature = kNan; }, "temperature", kHigh},
        {"TopPZero", [](R& r) { r.sampling.top_p = 0; }, "top_p", kLow},
        {"TopPHigh", [](R& r) { r.sampling.top_p = 1.5f; }, "top_p", kHigh},
        {"TopPNan", [](R& r) { r.sampling.top_p = kNan; }, "top_p", kHigh},
        {"TopKNegative", [](R& r) { r.sampling.top_k = -1; }, "top_k", kIntLow},
        {"TopKBeyondVocab", [](R& r) { r.sampling.top_k = 1 << 30; }, ""},
        {"MinPNegative", [](R& r) { r.sampling.min_p = -1; }, "min_p", kLow},
        {"MinPNan", [](R& r) { r.sampling.min_p = kNan; }, "min_p", kHigh},
        {"TypicalPZero", [](R& r) { r.sampling.typical_p = 0; }, "typical_p", kLow},
        {"TypicalPNan", [](R& r) { r.sampling.typical_p = kNan; }, "typical_p", kHigh},
        {"RepetitionZero", [](R& r) { r.sampling.repetition_penalty = 0; }, "repetition_penalty",
         kLow},
        {"RepetitionInfinite", [](R& r) { r.sampling.repetition_penalty = kInf; },
         "repetition_penalty", kHigh},
        {"PresenceLow", [](R& r) { r.sampling.presence_penalty = -2.5f; }, "presence_penalty",
         kLow},
        {"PresenceNan", [](R& r) { r.sampling.presence_penalty = kNan; }, "presence_penalty",
         kHigh},
        {"FrequencyHigh", [](R& r) { r.sampling.frequency_penalty = kInf; }, "frequency_penalty",
         kHigh},
        {"FrequencyMinusInfinity", [](R& r) { r.sampling.frequency_penalty = -kInf; },
         "frequency_penalty", kLow},

        {"BiasOk",
         [](R& r) {
           r.sampling.logit_bias = {{0, -100.0f}, {kVocab - 1, 100.0f}};
         },
         ""},
        {"BiasTokenNegative",
         [](R& r) {
           r.sampling.logit_bias = {{-1, 1.0f}};
         },
         "logit_bias", kToken},
        {"BiasTokenBeyond",
         [](R& r) {
           r.sampling.logit_bias = {{kVocab, 1.0f}};
         },
         "logit_bias", kToken},
        {"BiasHigh",
         [](R& r) {
           r.sampling.logit_bias = {{1, 100.5f}};
         },
         "logit_bias", kHigh},
        {"BiasNan",
         [](R& r) {
           r.sampling.logit_bias = {{1, kNan}};
         },
         "logit_bias", kHigh},
        {"BiasCount",
         [](R& r) {
           r.sampling.logit_bias.assign(kMaxLogitBias + 1, {1, 1.0f});
         },
         "logit_bias", "array_above_max_length"},
        {"OneBiasTwice",
         [](R& r) {
           r.sampling.logit_bias = {{7, 1.0f}, {5, 1.0f}, {7, 1.0f}};
         },
         "logit_bias", "duplicate_token_id"},
        {"AllButOneBanned", [](R& r) { r.sampling.logit_bias = Bans(kVocab - 1); }, ""},
        {"EveryTokenBanned", [](R& r) { r.sampling.logit_bias = Bans(kVocab); }, "logit_bias"},
        {"AllButTheEndBannedBeforeMinTokens",
         [](R& r) {
           r.sampling.logit_bias = Bans(kVocab);
           r.sampling.logit_bias.erase(r.sampling.logit_bias.begin() + 2);
           r.min_tokens = 1;
         },
         "logit_bias"},
        {"AllButTheEndBanned",
         [](R& r) {
           r.sampling.logit_bias = Bans(kVocab);
           r.sampling.logit_bias.erase(r.sampling.logit_bias.begin() + 2);
         },
         ""},
        {"LogprobsMax", [](R& r) { r.sampling.logprobs = kMaxLogprobs; }, ""},
        {"LogprobsHigh", [](R& r) { r.sampling.logprobs = kMaxLogprobs + 1; }, "logprobs",
         kIntHigh},
        {"LogprobsNegative", [](R& r) { r.sampling.logprobs = -1; }, "logprobs", kIntLow},

        {"StopTokenOk",
         [](R& r) {
           r.stop_token_ids = {0, kVocab - 1};
         },
         ""},
        {"StopTokenNegative",
         [](R& r) {
           r.stop_token_ids = {1, -5};
         },
         "stop_token_ids", kToken},
        {"StopTokenBeyond", [](R& r) { r.stop_token_ids = {kVocab}; }, "stop_token_ids", kToken},
        {"StopTokenCount", [](R& r) { r.stop_token_ids.assign(kMaxStopTokenIds + 1, 1); },
         "stop_token_ids", "array_above_max_length"},

        {"PriorityHigh", [](R& r) { r.priority = kMaxPriority + 1; }, "priority", kIntHigh},
        {"PriorityLow", [](R& r) { r.priority = std::numeric_limits<int>::min(); }, "priority",
         kIntLow},
        {"TenantLong", [](R& r) { r.tenant.assign(kMaxNameBytes + 1, 'x'); }, "tenant",
         "string_above_max_length"},
        {"IdLong", [](R& r) { r.external_id.assign(kMaxNameBytes + 1, 'x'); }, "request_id",
         "string_above_max_length"},
    }),
    [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

TEST(ValidateRequest, ContextErrorShowsTheNumbers) {
  GenerateRequest request = Valid();
  request.max_tokens = 1000;
  const std::string message(ValidateRequest(request, kLimits).message());
  for (const char* number : {"64", "1003", "(3 ", "1000"}) {
    EXPECT_NE(message.find(number), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace trireme
