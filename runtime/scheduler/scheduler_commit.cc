// What came of a step; the rules are in scheduler.h.

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/scheduler/scheduler.h"

namespace trireme {

void Scheduler::Describe(const LiveSequence& live, SequenceEvent* event) {
  const Sequence& sequence = *live.sequence;
  event->id = sequence.id;
  event->num_cached_prompt_tokens = sequence.num_cached_prompt;
  event->num_preemptions = sequence.num_preemptions;
}

// Hashes of all full blocks of the known tokens; each is computed once in the life of a sequence.
void Scheduler::ExtendHashes(Sequence* sequence) {
  const size_t size = options_.block_size;
  const size_t num_full = sequence->tokens.size() / size;
  while (sequence->hashes.size() < num_full) {
    const size_t first = sequence->hashes.size() * size;
    const BlockHash parent =
        sequence->hashes.empty() ? RootHash(sequence->tenant) : sequence->hashes.back();
    sequence->hashes.push_back(
        ChainHash(parent, absl::MakeConstSpan(sequence->tokens).subspan(first, size)));
  }
}

void Scheduler::PublishFullBlocks(Sequence* sequence) {
  const int size = options_.block_size;
  ExtendHashes(sequence);
  for (int& i = sequence->num_published; (i + 1) * size <= sequence->num_computed; ++i)
    pool_.Publish(sequence->blocks[i], sequence->hashes[i]);
}

// What each row passes through is one loop: calls would cost a fifth of it.
[[gnu::always_inline]] inline void Scheduler::AcceptToken(LiveSequence* live,
                                                          SequenceEvent* event) {
  Sequence& sequence = *live->sequence;
  const SequenceLimits& limits = sequence.limits;
  const bool may_stop = sequence.num_generated() >= limits.min_tokens;
  const TokenId id = event->token.id;
  sequence.tokens.push_back(id);
  ++stats_.generated_tokens;
  event->has_token = true;
  if (may_stop &&
      std::find(limits.stop_ids.begin(), limits.stop_ids.end(), id) != limits.stop_ids.end()) {
    event->finish = FinishReason::kStop;
  } else if (live->num_tokens() >= live->max_length) {
    event->finish = FinishReason::kLength;
  }
}

[[gnu::always_inline]] inline void Scheduler::ApplyRow(LiveSequence* live, const StepRow& row,
                                                       SequenceEvent* event) {
  Sequence& sequence = *live->sequence;
  sequence.num_computed = row.first_token + row.num_tokens;
  if ((sequence.num_published + 1) * options_.block_size <= sequence.num_computed &&
      options_.prefix_cache) {
    PublishFullBlocks(&sequence);
  }

  if (!event->prompt_logprobs.empty()) {
    // A recomputed chunk has its prompt logprobs a second time: drop those.
    auto& logprobs = event->prompt_logprobs;
    const int again = std::clamp(live->next_prompt_logprob - (row.first_token + 1), 0,
                                 static_cast<int>(logprobs.size()));
    logprobs.erase(logprobs.begin(), logprobs.begin() + again);
    live->next_prompt_logprob += static_cast<int>(logprobs.size());
  }

  if (row.sample) {
    AcceptToken(live, event);
  } else if (sequence.limits.max_tokens == 0 && live->num_uncomputed() == 0) {
    event->finish = FinishReason::kLength;
  }
}

[[gnu::always_inline]] inline void Scheduler::CommitRow(LiveSequence* live, const StepRow& row,
                                                        SequenceEvent* event) {
  Describe(*live, event);
  event->has_token = false;
  event->finish = FinishReason::kNone;
  if (live->ending.reason != FinishReason::kNone) [[unlikely]] {
    event->finish = live->ending.reason;
    event->error = std::move(live->ending.error);
    event->prompt_logprobs.clear();
  } else if (!event->error.ok()) [[unlikely]] {
    event->finish = FinishReason::kError;
    event->prompt_logprobs.clear();
    if (event->error.code() != absl::StatusCode::kInvalidArgument) {  // not the client's fault:
      // what it computed may be the cause, so nobody else shall find it.
      for (const BlockId block : live->sequence->blocks) pool_.Retract(block);
    }
  } else {
    ApplyRow(live, row, event);
  }
  if (event->finish != FinishReason::kNone) Remove(live);
}

absl::Span<SequenceEvent> Scheduler::Commit(const StepPlan& plan, StepResult* result) {
  if (plan.rows.empty()) return {};
  const size_t num_rows = step_.sequences.size();
  TRIREME_CHECK(plan_outstanding_ && plan.step == stats_.steps);
  TRIREME_CHECK(plan.rows.size() == num_rows && result->rows.size() == num_rows);
  plan_outstanding_ = false;

  size_t num_events = 0;
  for (size_t i = 0; i < num_rows; ++i) {
    SequenceEvent& event = result->rows[i];
    TRIREME_DCHECK(step_.sequences[i]->sequence.get() == plan.rows[i].sequence);
    CommitRow(step_.sequences[i], step_.plan.rows[i], &event);
    if (event.has_token || event.finish != FinishReason::kNone || !event.prompt_logprobs.empty()) {
      if (num_events != i) std::swap(result->rows[num_events], event);
      ++num_events;
    }
  }
  return absl::MakeSpan(result->rows).subspan(0, num_events);
}

}  // namespace trireme
