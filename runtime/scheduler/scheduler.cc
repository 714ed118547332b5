#include "runtime/scheduler/scheduler.h"

#include <algorithm>

#include "runtime/base/check.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

SchedulerOptions Effective(SchedulerOptions options) {
  TRIREME_CHECK(options.block_size > 0 && options.num_blocks > 0 && options.max_context_tokens > 0);
  TRIREME_CHECK(options.max_running > 0 && options.max_step_tokens > 0);
  TRIREME_CHECK(options.max_prefill_chunk > 0);
  options = FitToStep(options);
  // So that any admitted sequence fits when it is alone.
  const int64_t kv_tokens = int64_t{options.num_blocks} * options.block_size;
  options.max_context_tokens =
      static_cast<int>(std::min<int64_t>(options.max_context_tokens, kv_tokens));
  return options;
}

// What every event of a sequence says.
void FillEvent(const Sequence& sequence, SequenceEvent* event) {
  event->id = sequence.id;
  event->num_cached_prompt_tokens = sequence.num_cached_prompt;
  event->num_preemptions = sequence.num_preemptions;
}

}  // namespace

SchedulerOptions FitToStep(SchedulerOptions options) {
  options.max_running = std::min(options.max_running, std::max(1, options.max_step_tokens - 1));
  options.max_prefill_chunk = std::min(options.max_prefill_chunk, options.max_step_tokens);
  return options;
}

Scheduler::Scheduler(const SchedulerOptions& options, const Clock* clock)
    : options_(Effective(options)),
      clock_(clock),
      watermark_blocks_(std::max(1, options.num_blocks / 100)),
      pool_(options.num_blocks, options.block_size) {}

Scheduler::~Scheduler() = default;

int Scheduler::BlocksFor(int num_tokens) const {
  return (num_tokens + options_.block_size - 1) / options_.block_size;
}

LiveSequence* Scheduler::Find(RequestId id) {
  const auto found = live_.find(id);
  return found == live_.end() ? nullptr : found->second.get();
}

absl::Status Scheduler::Admit(std::unique_ptr<Sequence> sequence) {
  const int num_prompt = sequence->num_prompt_tokens;
  TRIREME_CHECK(num_prompt > 0 && sequence->tokens.size() == static_cast<size_t>(num_prompt));
  TRIREME_CHECK(sequence->num_computed == 0 && sequence->blocks.empty() && !sequence->paused);
  const int room_for_output = sequence->limits.max_tokens > 0 ? 1 : 0;
  if (num_prompt > options_.max_context_tokens - room_for_output) {
    return InvalidParam("prompt",
                        StrCat("The prompt has ", num_prompt,
                               " tokens, but prompt and output together can have at most ",
                               options_.max_context_tokens, " on this node."),
                        "context_length_exceeded");
  }
  // A lone prompt is let in even if it exceeds the token bound, or it could never be served.
  if (waiting_.num_new() >= options_.max_waiting_requests ||
      (waiting_.num_new() > 0 &&
       waiting_.num_new_prompt_tokens() + num_prompt > options_.max_waiting_prompt_tokens)) {
    return WithCode(
        absl::ResourceExhaustedError("The queue of this node is full; try again later."),
        "overloaded");
  }

  auto live = std::make_unique<LiveSequence>();
  live->sequence = std::move(sequence);
  live->ticket = next_ticket_++;
  const Sequence& admitted = *live->sequence;
  if (admitted.deadline != absl::InfiniteFuture())
    deadlines_.emplace(admitted.deadline, admitted.id);
  waiting_.Insert(live.get());
  const RequestId id = admitted.id;
  TRIREME_CHECK(live_.try_emplace(id, std::move(live)).second);
  return absl::OkStatus();
}

absl::Span<SequenceEvent> Scheduler::Commit(const StepPlan& plan, StepResult result) {
  committed_.clear();
  if (plan.rows.empty()) return {};
  TRIREME_CHECK(plan_outstanding_ && plan.step == stats_.steps);
  TRIREME_CHECK(plan.rows.size() == planned_.size() && result.rows.size() == planned_.size());
  plan_outstanding_ = false;

  committed_.reserve(planned_.size());
  for (size_t i = 0; i < planned_.size(); ++i) {
    LiveSequence* live = planned_[i];
    TRIREME_CHECK(live->in_plan && live->sequence.get() == plan.rows[i].sequence);
    live->in_plan = false;
    SequenceEvent& event = committed_.emplace_back();
    FillEvent(*live->sequence, &event);
    if (live->ending.reason != FinishReason::kNone) {
      event.finish = live->ending.reason;
      event.error = std::move(live->ending.error);
    } else if (!result.rows[i].status.ok()) {
      event.finish = FinishReason::kError;
      event.error = result.rows[i].status;
      if (event.error.code() != absl::StatusCode::kInvalidArgument) {  // not the client's fault:
        // what it computed may be the cause, so nobody else shall find it.
        for (const BlockId block : live->sequence->blocks) pool_.Retract(block);
      }
    } else {
      ApplyRow(live, plan.rows[i], &result.rows[i], &event);
    }
    const bool ended = event.finish != FinishReason::kNone;
    if (!event.has_token && !ended && event.prompt_logprobs.empty()) committed_.pop_back();
    if (ended) Remove(live);
  }
  return absl::MakeSpan(committed_);
}

void Scheduler::ApplyRow(LiveSequence* live, const StepRow& row, RowResult* result,
                         SequenceEvent* event) {
  Sequence& sequence = *live->sequence;
  sequence.num_computed = row.first_token + row.num_tokens;
  PublishFullBlocks(&sequence);

  // A recomputed chunk has its prompt logprobs a second time: drop those.
  for (size_t i = 0; i < result->prompt_logprobs.size(); ++i) {
    if (row.first_token + 1 + static_cast<int>(i) < live->next_prompt_logprob) continue;
    event->prompt_logprobs.push_back(std::move(result->prompt_logprobs[i]));
    ++live->next_prompt_logprob;
  }

  if (row.sample) {
    AcceptToken(live, std::move(result->token), event);
  } else if (sequence.limits.max_tokens == 0 && live->num_uncomputed() == 0) {
    event->finish = FinishReason::kLength;
  }
}

void Scheduler::AcceptToken(LiveSequence* live, SampledToken token, SequenceEvent* event) {
  Sequence& sequence = *live->sequence;
  const SequenceLimits& limits = sequence.limits;
  const bool may_stop = sequence.num_generated() >= limits.min_tokens;
  const TokenId id = token.id;
  sequence.tokens.push_back(id);
  ++stats_.generated_tokens;
  event->has_token = true;
  event->token = std::move(token);
  if (may_stop &&
      std::find(limits.stop_ids.begin(), limits.stop_ids.end(), id) != limits.stop_ids.end()) {
    event->finish = FinishReason::kStop;
  } else if (sequence.num_generated() >= limits.max_tokens ||
             live->num_tokens() >= options_.max_context_tokens) {
    event->finish = FinishReason::kLength;
  }
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
  if ((sequence->num_published + 1) * size > sequence->num_computed) return;
  if (!options_.prefix_cache) return;
  ExtendHashes(sequence);
  for (int& i = sequence->num_published; (i + 1) * size <= sequence->num_computed; ++i)
    pool_.Publish(sequence->blocks[i], sequence->hashes[i]);
}

absl::Span<SequenceEvent> Scheduler::TakeEvents() {
  taken_.clear();
  std::swap(taken_, events_);
  return absl::MakeSpan(taken_);
}

void Scheduler::Cancel(RequestId id, Ending ending) {
  TRIREME_CHECK(ending.reason != FinishReason::kNone);
  LiveSequence* live = Find(id);
  if (live == nullptr || live->ending.reason != FinishReason::kNone) return;
  if (live->in_plan) {
    live->ending = std::move(ending);
  } else {
    End(live, std::move(ending));
  }
}

void Scheduler::SetPaused(RequestId id, bool paused) {
  LiveSequence* live = Find(id);
  if (live == nullptr || live->sequence->paused == paused) return;
  if (!live->running) waiting_.Remove(live);
  live->sequence->paused = paused;
  if (!live->running) waiting_.Insert(live);
}

void Scheduler::FailAll(const absl::Status& error) {
  plan_outstanding_ = false;
  std::vector<RequestId> ids;
  for (const auto& [id, live] : live_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());  // the map's order is not deterministic
  for (const RequestId id : ids) {
    LiveSequence* live = Find(id);
    live->in_plan = false;
    const bool ending = live->ending.reason != FinishReason::kNone;
    End(live, ending ? std::move(live->ending) : Ending{FinishReason::kError, error});
  }
  pool_.DropCache();
}

void Scheduler::End(LiveSequence* live, Ending ending) {
  SequenceEvent& event = events_.emplace_back();
  FillEvent(*live->sequence, &event);
  event.finish = ending.reason;
  event.error = std::move(ending.error);
  Remove(live);
}

void Scheduler::Remove(LiveSequence* live) {
  const Sequence& sequence = *live->sequence;
  if (live->running) {
    running_.erase(std::lower_bound(running_.begin(), running_.end(), live, MoreSenior()));
    pool_.Release(sequence.blocks);
  } else {
    waiting_.Remove(live);
  }
  deadlines_.erase({sequence.deadline, sequence.id});
  live_.erase(sequence.id);
}

bool Scheduler::HasWork() const {
  return waiting_.front() != nullptr ||
         std::any_of(running_.begin(), running_.end(),
                     [](const LiveSequence* live) { return !live->sequence->paused; });
}

absl::Time Scheduler::NextDeadline() const {
  return deadlines_.empty() ? absl::InfiniteFuture() : deadlines_.begin()->first;
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = stats_;
  stats.running = static_cast<int>(running_.size());
  stats.waiting = waiting_.size();
  stats.waiting_prompt_tokens = waiting_.num_prompt_tokens();
  stats.blocks_total = pool_.num_blocks();
  stats.blocks_held = pool_.num_held();
  stats.blocks_cached = pool_.num_cached();
  stats.queue_comparisons = waiting_.num_comparisons();
  return stats;
}

void Scheduler::CheckInvariants() const {
  pool_.CheckInvariants();
  TRIREME_CHECK(std::is_sorted(running_.begin(), running_.end(), MoreSenior()));
  TRIREME_CHECK(running_.size() <= static_cast<size_t>(options_.max_running));
  TRIREME_CHECK(live_.size() == running_.size() + static_cast<size_t>(waiting_.size()));
  absl::flat_hash_map<BlockId, const Sequence*> holders;
  for (const LiveSequence* live : running_) {
    const Sequence& sequence = *live->sequence;
    TRIREME_CHECK(live->running && sequence.num_computed <= live->num_tokens());
    const int num_blocks = static_cast<int>(sequence.blocks.size());
    TRIREME_CHECK(sequence.num_published * options_.block_size <= sequence.num_computed);
    TRIREME_CHECK(live->in_plan ? num_blocks >= BlocksFor(sequence.num_computed)
                                : num_blocks == BlocksFor(sequence.num_computed));
    for (const BlockId block : sequence.blocks) {
      const auto [holder, inserted] = holders.try_emplace(block, &sequence);
      TRIREME_CHECK(inserted || holder->second->tenant == sequence.tenant);
    }
  }
  TRIREME_CHECK(holders.size() == static_cast<size_t>(pool_.num_held()));
  size_t num_deadlines = 0;
  for (const auto& [id, live] : live_) {
    TRIREME_CHECK(id == live->sequence->id && !(live->in_plan && !plan_outstanding_));
    if (!live->running) {
      TRIREME_CHECK(live->sequence->blocks.empty() && live->sequence->num_computed == 0);
      TRIREME_CHECK(!live->in_plan);
    }
    if (live->sequence->deadline != absl::InfiniteFuture()) ++num_deadlines;
  }
  TRIREME_CHECK(num_deadlines == deadlines_.size());
}

}  // namespace trireme
