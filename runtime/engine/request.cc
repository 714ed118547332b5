#include "runtime/engine/request.h"

#include <algorithm>
#include <limits>
#include <string_view>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

// Everything between `low` and `high`; NaN fails both comparisons and is refused with the rest.
absl::Status CheckDecimal(std::string_view param, float value, float low, float high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return InvalidParam(param,
                      StrCat(param, " must be between ", low, " and ", high, ", got ", value),
                      value < low ? "decimal_below_min_value" : "decimal_above_max_value");
}

// The same with `low` itself left out.
absl::Status CheckDecimalAbove(std::string_view param, float value, float low, float high) {
  if (value > low && value <= high) return absl::OkStatus();
  return InvalidParam(
      param, StrCat(param, " must be greater than ", low, " and at most ", high, ", got ", value),
      value <= low ? "decimal_below_min_value" : "decimal_above_max_value");
}

absl::Status CheckInteger(std::string_view param, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return InvalidParam(param,
                      StrCat(param, " must be between ", low, " and ", high, ", got ", value),
                      value < low ? "integer_below_min_value" : "integer_above_max_value");
}

absl::Status CheckCount(std::string_view param, size_t count, size_t limit) {
  if (count <= limit) return absl::OkStatus();
  return InvalidParam(param, StrCat(param, " may have at most ", limit, " entries, got ", count),
                      "array_above_max_length");
}

absl::Status CheckLength(std::string_view param, size_t bytes, size_t limit) {
  if (bytes <= limit) return absl::OkStatus();
  return InvalidParam(param, StrCat(param, " may have at most ", limit, " bytes, got ", bytes),
                      "string_above_max_length");
}

absl::Status CheckToken(std::string_view param, TokenId id, int vocab_size) {
  if (id >= 0 && id < vocab_size) return absl::OkStatus();
  return InvalidParam(
      param,
      StrCat(param, ": token id ", id, " is not in the vocabulary (0..", vocab_size - 1, ")"),
      "invalid_token_id");
}

absl::Status CheckSampling(const SamplingParams& s, int vocab_size) {
  TRIREME_RETURN_IF_ERROR(CheckDecimal("temperature", s.temperature, 0, kMaxTemperature));
  TRIREME_RETURN_IF_ERROR(CheckDecimalAbove("top_p", s.top_p, 0, 1));
  TRIREME_RETURN_IF_ERROR(CheckInteger("top_k", s.top_k, 0, std::numeric_limits<int>::max()));
  TRIREME_RETURN_IF_ERROR(CheckDecimal("min_p", s.min_p, 0, 1));
  TRIREME_RETURN_IF_ERROR(CheckDecimalAbove("typical_p", s.typical_p, 0, 1));
  TRIREME_RETURN_IF_ERROR(CheckDecimal("repetition_penalty", s.repetition_penalty,
                                       kMinRepetitionPenalty, kMaxRepetitionPenalty));
  TRIREME_RETURN_IF_ERROR(CheckDecimal("presence_penalty", s.presence_penalty, -2, 2));
  TRIREME_RETURN_IF_ERROR(CheckDecimal("frequency_penalty", s.frequency_penalty, -2, 2));
  TRIREME_RETURN_IF_ERROR(CheckCount("logit_bias", s.logit_bias.size(), kMaxLogitBias));
  for (const auto& [id, bias] : s.logit_bias) {
    TRIREME_RETURN_IF_ERROR(CheckToken("logit_bias", id, vocab_size));
    TRIREME_RETURN_IF_ERROR(CheckDecimal("logit_bias", bias, -100, 100));
  }
  if (s.logprobs) TRIREME_RETURN_IF_ERROR(CheckInteger("logprobs", *s.logprobs, 0, kMaxLogprobs));
  return absl::OkStatus();
}

// One bias per token, and some token left that may be generated.
absl::Status CheckBiases(const GenerateRequest& request, const RequestLimits& limits) {
  std::vector<TokenId> ids, banned;
  for (const auto& [id, bias] : request.sampling.logit_bias) {
    ids.push_back(id);
    if (bias <= kBanBias) banned.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  if (std::adjacent_find(ids.begin(), ids.end()) != ids.end()) {
    return InvalidParam("logit_bias", "logit_bias names the same token id twice",
                        "duplicate_token_id");
  }
  if (banned.empty()) return absl::OkStatus();
  if (request.min_tokens > 0) {  // what would end the output is masked until then
    banned.insert(banned.end(), request.stop_token_ids.begin(), request.stop_token_ids.end());
    if (!request.ignore_eos) {
      banned.insert(banned.end(), limits.eos_ids.begin(), limits.eos_ids.end());
    }
    std::sort(banned.begin(), banned.end());
    banned.erase(std::unique(banned.begin(), banned.end()), banned.end());
  }
  if (banned.size() < static_cast<size_t>(limits.vocab_size)) return absl::OkStatus();
  return InvalidParam("logit_bias",
                      "logit_bias and min_tokens leave no token that may be generated");
}

// The prompt, and what may follow it, against the context: refused before any KV block is touched.
absl::Status CheckLengths(const GenerateRequest& request, int max_context) {
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  // A request for no tokens (prompt logprobs only) may fill the context with its prompt.
  const bool prefill_only = request.max_tokens == 0;
  if (prompt > max_context || (prompt == max_context && !prefill_only)) {
    return InvalidParam(
        "prompt",
        StrCat("the maximum context length is ", max_context, " tokens, but the prompt alone has ",
               prompt, " tokens and leaves no room for output"),
        "context_length_exceeded");
  }
  int64_t max_tokens = max_context - prompt;
  if (request.max_tokens) {
    if (*request.max_tokens < 0) {
      return CheckInteger("max_tokens", *request.max_tokens, 0, max_context);
    }
    if (*request.max_tokens > max_tokens) {
      return InvalidParam(
          "max_tokens",
          StrCat("the maximum context length is ", max_context, " tokens, but the request needs ",
                 prompt + *request.max_tokens, " (", prompt, " in the prompt, ",
                 *request.max_tokens, " for the output)"),
          "context_length_exceeded");
    }
    max_tokens = *request.max_tokens;
  }
  return CheckInteger("min_tokens", request.min_tokens, 0, max_tokens);
}

}  // namespace

absl::Status CheckTokenIds(std::string_view param, absl::Span<const TokenId> ids, int vocab_size) {
  for (const TokenId id : ids) TRIREME_RETURN_IF_ERROR(CheckToken(param, id, vocab_size));
  return absl::OkStatus();
}

absl::Status ValidateRequest(const GenerateRequest& request, const RequestLimits& limits) {
  if (request.prompt.empty()) {
    return InvalidParam("prompt", "the prompt must have at least one token", "empty_array");
  }
  // Lengths first: they are cheap, and they bound the loop over the prompt.
  TRIREME_RETURN_IF_ERROR(CheckLengths(request, limits.max_context_tokens));
  TRIREME_RETURN_IF_ERROR(CheckTokenIds("prompt", request.prompt, limits.vocab_size));
  TRIREME_RETURN_IF_ERROR(CheckSampling(request.sampling, limits.vocab_size));
  TRIREME_RETURN_IF_ERROR(
      CheckCount("stop_token_ids", request.stop_token_ids.size(), kMaxStopTokenIds));
  TRIREME_RETURN_IF_ERROR(
      CheckTokenIds("stop_token_ids", request.stop_token_ids, limits.vocab_size));
  TRIREME_RETURN_IF_ERROR(CheckBiases(request, limits));
  TRIREME_RETURN_IF_ERROR(CheckInteger("priority", request.priority, -kMaxPriority, kMaxPriority));
  TRIREME_RETURN_IF_ERROR(CheckLength("tenant", request.tenant.size(), kMaxNameBytes));
  return CheckLength("request_id", request.external_id.size(), kMaxNameBytes);
}

}  // namespace trireme
