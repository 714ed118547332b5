// What every door builds and what every door gets back.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "runtime/base/ids.h"
#include "runtime/scheduler/step_plan.h"

namespace trireme {

// Limits of one request. Those of a whole door request (n, stop strings, batches) are in
// server/node/generation.h.
inline constexpr float kMaxTemperature = 2.0f;
inline constexpr float kMaxRepetitionPenalty = 10.0f;
// A logit divided by less could leave the range of float.
inline constexpr float kMinRepetitionPenalty = 0.01f;
inline constexpr int kMaxLogprobs = 20;
inline constexpr float kBanBias = -100.0f;  // a logit_bias of it bans the token outright
inline constexpr size_t kMaxLogitBias = 1024;
inline constexpr size_t kMaxStopTokenIds = 128;
inline constexpr int kMaxPriority = 1000;     // and down to the negative of it; 0 by default
inline constexpr size_t kMaxNameBytes = 256;  // external_id, tenant

struct SamplingParams {
  float temperature = 1.0f;                           // [0, 2]; 0: greedy
  float top_p = 1.0f;                                 // (0, 1]
  int top_k = 0;                                      // 0: off
  float min_p = 0.0f;                                 // [0, 1]
  float typical_p = 1.0f;                             // (0, 1]
  float repetition_penalty = 1.0f;                    // [0.01, 10]; over prompt and output
  float presence_penalty = 0.0f;                      // [-2, 2]; over output
  float frequency_penalty = 0.0f;                     // [-2, 2]; over output
  std::vector<std::pair<TokenId, float>> logit_bias;  // bias in [-100, 100]; each id once
  std::optional<uint64_t> seed;  // same seed, same request: same tokens, whatever else runs
  std::optional<int> logprobs;   // top alternatives to report, 0..20; nullopt: no logprobs
  bool prompt_logprobs = false;  // also for every prompt token but the first
};

struct GenerateRequest {
  std::string external_id;      // for logs and Abort: what the client knows the request by
  std::vector<TokenId> prompt;  // not empty
  SamplingParams sampling;
  std::optional<int> max_tokens;  // nullopt: as many as the context has room for
  int min_tokens = 0;
  bool ignore_eos = false;
  std::vector<TokenId> stop_token_ids;
  std::string tenant;  // empty: the anonymous tenant
  int priority = 0;    // lower runs first, as in vLLM
  absl::Time deadline = absl::InfiniteFuture();
};

// What the model and the node allow; the validator needs nothing else.
struct RequestLimits {
  int vocab_size = 0;
  int max_context_tokens = 0;
  std::vector<TokenId> eos_ids;
};

// The one validator. INVALID_ARGUMENT with param (as the OpenAI wire names the field) and code
// (context_length_exceeded, integer_below_min_value ...). Called by Engine::Submit; doors may call
// it earlier to answer sooner.
absl::Status ValidateRequest(const GenerateRequest& request, const RequestLimits& limits);

// INVALID_ARGUMENT (`param`, code invalid_token_id) for an id outside [0, vocab_size).
absl::Status CheckTokenIds(std::string_view param, absl::Span<const TokenId> ids, int vocab_size);

// One delivery to the reader of a stream; see RequestStream.
struct StreamEvent {
  std::vector<SampledToken> prompt_logprobs;  // in prompt order, before any token
  std::vector<SampledToken> tokens;           // generated, in order
  FinishReason finish = FinishReason::kNone;  // not kNone: the last event
  absl::Status error;                         // for kError and kDeadline
  int num_cached_prompt_tokens = 0;

  // As it was made, but for memory that further tokens can use.
  void Clear() {
    prompt_logprobs = {};  // come once, and may be many
    tokens.clear();
    finish = FinishReason::kNone;
    error = absl::OkStatus();
    num_cached_prompt_tokens = 0;
  }
};

}  // namespace trireme
