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
  live->max_length = static_cast<int>(std::min<int64_t>(
      options_.max_context_tokens, int64_t{num_prompt} + admitted.limits.max_tokens));
  if (admitted.deadline != absl::InfiniteFuture())
    deadlines_.emplace(admitted.deadline, admitted.id);
  waiting_.Insert(live.get());
  const RequestId id = admitted.id;
  TRIREME_CHECK(live_.try_emplace(id, std::move(live)).second);
  return absl::OkStatus();
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
  if (IsComputed(*live)) {
    live->ending = std::move(ending);
  } else {
    End(live, std::move(ending));
  }
}

void Scheduler::SetPaused(RequestId id, bool paused) {
  LiveSequence* live = Find(id);
  if (live == nullptr || live->sequence->paused == paused) return;
  if (IsNext(*live)) DropRow(live);
  if (!live->running) waiting_.Remove(live);
  live->sequence->paused = paused;
  if (live->running) num_paused_ += paused ? 1 : -1;
  if (!live->running) waiting_.Insert(live);
}

void Scheduler::FailAll(const absl::Status& error) {
  plan_outstanding_ = false;
  ClearNext();
  std::vector<RequestId> ids;
  for (const auto& [id, live] : live_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());  // the map's order is not deterministic
  for (const RequestId id : ids) {
    LiveSequence* live = Find(id);
    live->planned_for = 0;
    const bool ending = live->ending.reason != FinishReason::kNone;
    End(live, ending ? std::move(live->ending) : Ending{FinishReason::kError, error});
  }
  pool_.DropCache();
}

void Scheduler::End(LiveSequence* live, Ending ending) {
  SequenceEvent& event = events_.emplace_back();
  Describe(*live, &event);
  event.finish = ending.reason;
  event.error = std::move(ending.error);
  Remove(live);
}

void Scheduler::Remove(LiveSequence* live) {
  if (IsNext(*live)) DropRow(live);
  const Sequence& sequence = *live->sequence;
  if (live->running) {
    if (sequence.paused) --num_paused_;
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
    if (IsComputed(*live)) {
      TRIREME_CHECK(num_blocks >= BlocksFor(sequence.num_computed));
    } else {
      TRIREME_CHECK(num_blocks == BlocksFor(sequence.num_computed + (IsNext(*live) ? 1 : 0)));
    }
    for (const BlockId block : sequence.blocks) {
      const auto [holder, inserted] = holders.try_emplace(block, &sequence);
      TRIREME_CHECK(inserted || holder->second->tenant == sequence.tenant);
    }
  }
  TRIREME_CHECK(holders.size() == static_cast<size_t>(pool_.num_held()));
  size_t num_deadlines = 0;
  int num_paused = 0;
  for (const auto& [id, live] : live_) {
    TRIREME_CHECK(id == live->sequence->id);
    if (live->running && live->sequence->paused) ++num_paused;
    if (!live->running) {
      TRIREME_CHECK(live->sequence->blocks.empty() && live->sequence->num_computed == 0);
      TRIREME_CHECK(!IsComputed(*live) && !IsNext(*live));
    }
    if (live->sequence->deadline != absl::InfiniteFuture()) ++num_deadlines;
  }
  TRIREME_CHECK(num_deadlines == deadlines_.size() && num_paused == num_paused_);
  TRIREME_CHECK(next_.sequences.size() == num_ahead_ && next_.plan.rows.size() == num_ahead_);
  size_t num_dropped = 0;
  for (size_t i = 0; i < num_ahead_; ++i) {
    const LiveSequence* live = next_.sequences[i];
    const StepRow& row = next_.plan.rows[i];
    if (live == nullptr) {
      TRIREME_CHECK(row.sequence == nullptr);
      ++num_dropped;
      continue;
    }
    TRIREME_CHECK(row.sequence == live->sequence.get() && live->next_row == static_cast<int>(i));
    TRIREME_CHECK(live->running && IsNext(*live) && !live->sequence->paused);
    TRIREME_CHECK(BlocksFor(row.first_token + 1) ==
                  static_cast<int>(live->sequence->blocks.size()));
  }
  TRIREME_CHECK(num_dropped == num_dropped_);
}

}  // namespace trireme
