// From the raw logits of one row to one token. The result depends on the logits, the request's
// parameters, the tokens it has produced and (seed, position) alone: not on the batch, the thread
// or the machine's random state.
//
// Order of operations:
//   1. Logprobs are taken from the raw logits: log-softmax before everything else, as OpenAI does.
//   2. logit_bias is added; a bias of -100 bans the token outright; `banned` ids are masked.
//   3. Repetition penalty over prompt and output (l > 0 ? l / r : l * r; CTRL, Keskar et al. 2019),
//      then presence and frequency penalties over the output (l -= presence + frequency * count;
//      OpenAI).
//   4. Temperature 0: the largest logit, lowest id on ties. Else softmax(l / temperature), and of
//      the remaining distribution each time: min_p, top_k, typical_p (Meister et al. 2022), top_p.
//      Exactly the shortest sufficient set is kept, at least one token; ties go to the lower id.
//   5. One uniform number u = Philox4x32-10(key = seed, counter = position) (Salmon et al. 2011)
//      picks the first id, in id order, at which the cumulative weight exceeds u * total.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/backend/sampling.h"
#include "runtime/base/ids.h"
#include "runtime/engine/request.h"
#include "runtime/scheduler/step_plan.h"

namespace trireme {

// What one request carries from token to token. Thread-compatible. Memory: O(distinct tokens), and
// only with penalties.
class SamplerState {
 public:
  // `seed` keys the random draws: params.seed when the client gave one, else the engine's random
  // choice. INVALID_ARGUMENT when an id of the prompt or of logit_bias is outside [0, vocab_size).
  static absl::StatusOr<SamplerState> Create(const SamplingParams& params,
                                             absl::Span<const TokenId> prompt, int vocab_size,
                                             uint64_t seed);

  const SamplingParams& params() const { return params_; }
  int vocab_size() const { return vocab_size_; }
  uint64_t seed() const { return seed_; }
  bool has_penalties() const { return penalties_; }
  absl::Span<const SeenToken> seen() const { return seen_; }  // with penalties

  // Counts a token that was drawn.
  void Accept(TokenId id) {
    if (penalties_) ++Count(id).output_count;
  }

 private:
  friend class Sampler;

  SamplerState(const SamplingParams& params, int vocab_size, uint64_t seed);
  SeenToken& Count(TokenId id);

  SamplingParams params_;
  int vocab_size_;
  uint64_t seed_;
  bool penalties_;  // any penalty is on; otherwise nothing is counted
  std::vector<SeenToken> seen_;
  absl::flat_hash_map<TokenId, int> seen_index_;  // id -> index in seen_
};

// The arithmetic, with its scratch memory: one per thread, for any number of requests. Allocates
// nothing per token once its scratch has grown (but for `out->top`, which keeps its capacity when
// reused).
class Sampler {
 public:
  // Draws the next token from `logits` ([vocab_size], modified) and counts it in `state`.
  // `position` is the number of tokens that the request has generated before. `banned` ids cannot
  // be drawn (stop ids before min_tokens). Fills out->logprob and out->top when params.logprobs is
  // set. INTERNAL: the logits hold NaN or +inf, or nothing but -inf. INVALID_ARGUMENT: logit_bias
  // and min_tokens leave no token. On error nothing is counted and *out is unspecified.
  absl::Status Sample(SamplerState& state, absl::Span<float> logits, uint64_t position,
                      absl::Span<const TokenId> banned, SampledToken* out);

  // Logprobs of the given token under raw logits ([vocab_size], not modified), for prompt logprobs:
  // id, logprob and the `top_n` best, best first, ties by lower id. INTERNAL as for Sample.
  absl::Status LogprobsOf(absl::Span<const float> logits, TokenId id, int top_n, SampledToken* out);

 private:
  struct Candidate {
    float key;
    TokenId id;
  };
  struct Bin {
    int64_t count;
    double mass;
  };
  struct Adjusted {
    TokenId id;
    float raw;
  };

  void Adjust(const SamplerState& state, absl::Span<const TokenId> banned,
              absl::Span<float> logits);
  void Set(absl::Span<float> logits, TokenId id, float value);
  float RawLogit(absl::Span<const float> logits, TokenId id) const;
  TokenId Draw(const SamplingParams& params, absl::Span<const float> logits, float max, double u);
  void KeepTypical(absl::Span<const float> logits, float max, float temperature, double mass);
  void KeepHead(absl::Span<const float> keys, int64_t max_count, double mass_fraction);

  std::vector<float> weights_;  // unnormalised probabilities; 0: filtered out
  std::vector<float> keys_;     // typical_p's order
  std::vector<Bin> bins_;
  std::vector<Candidate> candidates_;
  std::vector<Adjusted> adjusted_;  // logits changed by step 2 and 3, with their raw values
};

// What a device made of a row in place of a Sampler, with the Sampler's errors. Not kOnHost.
absl::Status ToSampledToken(const SampleOutcome& outcome, SampledToken* out);

// The generator behind the draws; public so that a test can hold it to the published vectors.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

}  // namespace trireme
