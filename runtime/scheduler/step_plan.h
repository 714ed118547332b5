// What one engine step computes, and what came of it.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "runtime/base/token_logprob.h"
#include "runtime/scheduler/sequence.h"

namespace trireme {

// A run of consecutive tokens of one sequence. Decode: one token, sampled. Prefill chunk: many
// tokens; sampled only if it reaches the end of what is known.
struct StepRow {
  const Sequence* sequence = nullptr;  // valid until Commit of this plan
  int first_token = 0;                 // index into sequence->tokens of the first token to compute
  int num_tokens = 0;                  // >= 1
  bool sample = false;                 // the last token's logits are wanted for sampling
};

struct StepPlan {
  uint64_t step = 0;          // counts from 1; 0 when there are no rows
  std::vector<StepRow> rows;  // decode rows first, then prefill chunks
  int num_tokens = 0;         // sum over rows; <= SchedulerOptions::max_step_tokens
  int num_decode_rows = 0;
};

struct SampledToken {
  TokenId id = 0;
  float logprob = 0;              // of `id`; only filled when asked for
  std::vector<TokenLogprob> top;  // best first, as many as asked for
};

// One entry per row of the plan, in order.
struct RowResult {
  absl::Status status;  // not OK: this sequence fails alone (NaN logits ...)
  SampledToken token;   // valid when the row's `sample` is set
  // For want_prompt_logits: of the prompt tokens among first_token+1 .. first_token+num_tokens.
  std::vector<SampledToken> prompt_logprobs;
};
struct StepResult {
  std::vector<RowResult> rows;
};

// What a step meant for one sequence. Token events come in order and append only.
struct SequenceEvent {
  RequestId id = 0;
  std::vector<SampledToken> prompt_logprobs;  // in prompt order; a chunk at a time
  bool has_token = false;
  SampledToken token;  // at kStop: the stop id itself
  // Not kNone: the last event of this sequence; its blocks are released.
  FinishReason finish = FinishReason::kNone;
  absl::Status error;                // for kError, kDeadline
  int num_cached_prompt_tokens = 0;  // valid with the first token
  int num_preemptions = 0;           // so far
};

}  // namespace trireme
