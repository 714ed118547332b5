// From rows of logits to tokens: runtime/engine/sampler.h on the device, with its order of
// operations and its filters (logprobs of raw logits; bias, bans, grammar; penalties; temperature,
// min_p, top_k, typical_p, top_p; one uniform number, Philox4x32-10 keyed by seed and position,
// through the cumulative weights in the order of ids). Inverse transform rather than Gumbel-max, so
// that a request draws the tokens that it draws on the CPU.
//
// Weights are fixed-point numbers of 2^-44 of the largest one: sums are exact in any order, so the
// result depends on the row alone. What weighs less than 2^-45 is never drawn.
#pragma once

#include "kernels/cuda/batch.h"

namespace trireme::cuda {

inline constexpr int64_t kMaxVocab = 1 << 20;
inline constexpr int kMaxTopLogprobs = 20;

struct TokenBias {
  int32_t id;
  float bias;  // -infinity bans the token
  float raw;   // scratch
};
// A token of the prompt (repetition penalty) or of the output.
struct SeenToken {
  int32_t id;
  int32_t output_count;  // 0: only in the prompt
  float raw;             // scratch
};

// The parameters of a row, in device memory, as are the arrays they point to.
struct SampleRow {
  bool active = false;    // else the row pads the batch: nothing of it is read or written
  float temperature = 1;  // 0: greedy
  float top_p = 1, min_p = 0, typical_p = 1;
  int32_t top_k = 0;  // 0: off
  float repetition_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  uint64_t seed = 0, position = 0;  // position: tokens generated before
  int32_t num_top = -1;             // top logprobs, up to kMaxTopLogprobs; -1: no logprobs at all
  int32_t given = -1;  // a prompt's token: its logprobs are reported, and nothing else is done
  // Grammar: bit id % 32 of word id / 32 allows the id; or null.
  const uint32_t* allowed = nullptr;
  // logit_bias and banned ids, each id once.
  TokenBias* biases = nullptr;
  int32_t num_biases = 0;
  // With a penalty: what was seen, each id once, in any order. The kernel counts the token it
  // chooses, so there is room for one more. Null: no penalties.
  SeenToken* seen = nullptr;
  int32_t* num_seen = nullptr;
};

enum class SampleStatus : int32_t {
  kOk,
  kNotNumbers,   // NaN or +infinity, or nothing but -infinity: the model's fault
  kNothingLeft,  // bias, bans and grammar leave no token
};

struct TopLogprob {
  int32_t id;
  float logprob;
};
// Of a row. Not kOk: token is 0, nothing was counted, and the rest is unspecified.
struct SampledRow {
  int32_t token;
  SampleStatus status;
  float logprob;                    // of the raw logits
  int32_t num_top;                  // min(num_top, vocab_size)
  TopLogprob top[kMaxTopLogprobs];  // best first, ties by lower id
};

// logits: [num_rows, stride] F32, 16-byte aligned, modified; stride: a multiple of 4. vocab_size:
// at most kMaxVocab. tokens: [num_rows], the tokens once more, where the next step reads them.
cudaError_t Sample(float* logits, int64_t stride, int vocab_size, const SampleRow* rows,
                   int64_t num_rows, SampledRow* out, int32_t* tokens, cudaStream_t stream);

}  // namespace trireme::cuda
