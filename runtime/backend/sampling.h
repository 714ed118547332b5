// A token chosen where the logits lie, on the device: what a row is to be sampled with, and what
// came of it. runtime/engine/sampler.h says what the parameters mean and in which order they apply.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "runtime/base/ids.h"
#include "runtime/base/token_logprob.h"

namespace trireme {

struct TokenBias {
  TokenId id = 0;
  float bias = 0;  // -infinity bans the token
};

// A token of the prompt (repetition penalty) or of the output.
struct SeenToken {
  TokenId id = 0;
  int output_count = 0;  // 0: only in the prompt
};

struct SampleRequest {
  bool on_host = false;  // nothing is chosen: the host wants the row itself

  float temperature = 1;  // 0: greedy
  float top_p = 1, min_p = 0, typical_p = 1;
  int top_k = 0;  // 0: off
  float repetition_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  uint64_t seed = 0, position = 0;  // of the one uniform number

  int num_top = -1;    // top logprobs to report; -1: no logprobs at all
  TokenId given = -1;  // a prompt's token: its logprobs, and nothing is chosen

  absl::Span<const TokenBias> biases;  // each id once, all in the vocabulary
  bool penalties = false;              // any penalty is on: `seen` counts
  absl::Span<const SeenToken> seen;    // each id once
};

struct SampleOutcome {
  enum class Kind : uint8_t {
    kToken,
    kOnHost,       // the row is the host's to sample: asked for, or no room for its parameters
    kNotNumbers,   // NaN or +infinity, or nothing but -infinity: the model's fault
    kNothingLeft,  // biases and bans leave no token
  };
  Kind kind = Kind::kOnHost;
  TokenId id = 0;
  float logprob = 0;                   // when num_top was not -1
  absl::Span<const TokenLogprob> top;  // best first, ties by lower id
};

}  // namespace trireme
