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

// What came of one row of a plan: the executor fills the first part, and Commit makes it what the
// step meant for the sequence. Token events come in order and append only.
struct SequenceEvent {
  // Of the executor: not OK if this sequence fails alone (NaN logits ...). Of an event: for kError,
  // kDeadline.
  absl::Status error;
  SampledToken token;  // valid when the row's `sample` is set; at kStop: the stop id itself
  // For want_prompt_logits: of the prompt tokens among first_token+1 .. first_token+num_tokens.
  // Of events: in prompt order, a chunk at a time.
  std::vector<SampledToken> prompt_logprobs;

  // Of the scheduler.
  RequestId id = 0;
  // Not kNone: the last event of this sequence; its blocks are released.
  FinishReason finish = FinishReason::kNone;
  bool has_token = false;
  int num_cached_prompt_tokens = 0;  // valid with the first token
  int num_preemptions = 0;           // so far
};

// One entry per row of the plan, in order. Kept from step to step for its memory.
struct StepResult {
  std::vector<SequenceEvent> rows;

  // `num_rows` rows in whose first part there is nothing yet.
  void Reset(size_t num_rows) {
    rows.resize(num_rows);
    for (SequenceEvent& row : rows) {
      if (!row.error.ok()) row.error = absl::OkStatus();
      row.token.id = 0;
      row.token.logprob = 0;
      row.token.top.clear();
      row.prompt_logprobs.clear();
    }
  }
};

}  // namespace trireme
