// What the next step computes; the rules are in scheduler.h.

#include <algorithm>

#include "runtime/base/check.h"
#include "runtime/scheduler/scheduler.h"

namespace trireme {
namespace {

bool NeedsOneToken(const LiveSequence* live) { return live->num_uncomputed() == 1; }

}  // namespace

struct Scheduler::Pass {
  std::vector<std::pair<LiveSequence*, int>> prefills;  // and how many tokens
  int prefill_tokens_left = 0;
  int promised_blocks = 0;  // that the sequences served so far will need for their known tokens
  bool taking_up = true;    // until the first waiting sequence that cannot be taken up
};

const StepPlan& Scheduler::Plan() {
  TRIREME_CHECK(!plan_outstanding_);
  ExpireDeadlines();

  // The sequences running now, in order; those preempted on the way are skipped when their turn
  // comes. Mostly all of them have their rows already.
  order_.clear();
  const size_t num_ready = num_ahead_ - num_dropped_;
  if (num_ready < running_.size()) order_ = running_;
  const std::vector<LiveSequence*>& order = order_;
  const auto runnable = [this](const LiveSequence* live) {
    return live->running && !IsNext(*live) && !live->sequence->paused;
  };
  const auto num_decoding =
      static_cast<int>(num_ready) +
      static_cast<int>(std::count_if(order.begin(), order.end(), [&](const LiveSequence* live) {
        return runnable(live) && NeedsOneToken(live);
      }));
  Pass pass;
  pass.prefill_tokens_left = options_.max_step_tokens - num_decoding;
  if (num_decoding > 0) {
    pass.prefill_tokens_left = std::min(pass.prefill_tokens_left, options_.max_prefill_chunk);
  }

  for (size_t next = 0;;) {
    while (next < order.size() && !runnable(order[next])) ++next;
    LiveSequence* running = next < order.size() ? order[next] : nullptr;
    LiveSequence* waiting = pass.taking_up ? waiting_.front() : nullptr;
    if (waiting != nullptr &&
        (running == nullptr || waiting->sequence->priority < running->sequence->priority)) {
      pass.taking_up = TakeUp(waiting, &pass);
    } else if (running != nullptr) {
      if (!Continue(running, &pass)) break;
      ++next;
    } else {
      break;
    }
  }

  StepPlan& plan = next_.plan;
  if (num_dropped_ > 0) {
    std::erase_if(plan.rows, [](const StepRow& row) { return row.sequence == nullptr; });
    std::erase(next_.sequences, nullptr);
  }
  plan.num_decode_rows = plan.num_tokens = static_cast<int>(plan.rows.size());
  for (const auto& [live, num_tokens] : pass.prefills) {
    AddRow(live, num_tokens);
    plan.num_tokens += num_tokens;
  }
  plan_outstanding_ = !plan.rows.empty();
  plan.step = plan_outstanding_ ? ++stats_.steps : 0;
  std::swap(step_, next_);
  ClearNext();
  return step_.plan;
}

void Scheduler::ClearNext() {
  next_.plan.rows.clear();
  next_.sequences.clear();
  num_ahead_ = num_dropped_ = 0;
}

void Scheduler::PlanAhead() {
  TRIREME_CHECK(plan_outstanding_ && next_.sequences.empty());
  const size_t block_size = options_.block_size, num_rows = step_.sequences.size();
  const bool blocks_for_all =
      pool_.num_available() - watermark_blocks_ >= static_cast<int>(num_rows);
  next_.sequences.resize(num_rows);
  next_.plan.rows.resize(num_rows);
  for (size_t i = 0; i < num_rows; ++i) {
    LiveSequence* const live = step_.sequences[i];
    Sequence& sequence = *live->sequence;
    const int token = live->num_tokens();  // the one that this step samples
    if (!step_.plan.rows[i].sample || live->ending.reason != FinishReason::kNone ||
        sequence.paused || token + 1 >= live->max_length) {
      continue;
    }
    if (static_cast<size_t>(token) == sequence.blocks.size() * block_size) {
      if (options_.prefix_cache) ExtendHashes(&sequence);
      if (!blocks_for_all) continue;
      TRIREME_CHECK(pool_.Grow(1, &sequence.blocks));
    }
    live->planned_for = stats_.steps + 1;
    live->next_row = static_cast<int>(num_ahead_);
    next_.plan.rows[num_ahead_] = {&sequence, token, 1, true};
    next_.sequences[num_ahead_++] = live;
  }
  stats_.rows_ahead += num_ahead_;
  next_.sequences.resize(num_ahead_);
  next_.plan.rows.resize(num_ahead_);
}

void Scheduler::ExpireDeadlines() {
  if (deadlines_.empty()) return;
  const absl::Time now = clock_->Now();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    End(Find(deadlines_.begin()->second),
        {FinishReason::kDeadline,
         absl::DeadlineExceededError("The deadline of the request has passed.")});
  }
}

// Serves a running sequence. False: it found no blocks although everything junior to it was
// preempted.
bool Scheduler::Continue(LiveSequence* live, Pass* pass) {
  Sequence& sequence = *live->sequence;
  if (NeedsOneToken(live)) {
    if (!Reserve(live, live->num_tokens())) return false;
    AddRow(live, 1);
    return true;
  }
  const int num_tokens =
      std::min({live->num_uncomputed(), options_.max_prefill_chunk, pass->prefill_tokens_left});
  if (num_tokens > 0 && !Reserve(live, sequence.num_computed + num_tokens)) return false;
  AddPrefill(live, num_tokens, pass);
  return true;
}

// Starts, or starts again, the front of the waiting queue. False: it has to wait, and everything
// behind it.
bool Scheduler::TakeUp(LiveSequence* live, Pass* pass) {
  if (pass->prefill_tokens_left == 0 || !MakeRoom(live, *pass)) return false;

  Sequence& sequence = *live->sequence;
  waiting_.Remove(live);
  live->running = true;
  sequence.blocks.reserve(static_cast<size_t>(BlocksFor(live->max_length)));  // see PlanAhead
  running_.insert(std::lower_bound(running_.begin(), running_.end(), live, MoreSenior()), live);
  sequence.num_published = static_cast<int>(sequence.blocks.size());
  sequence.num_computed = sequence.num_published * options_.block_size;
  if (!live->started) {
    live->started = true;
    sequence.num_cached_prompt = sequence.num_computed;
    stats_.prompt_tokens += sequence.num_prompt_tokens;
    stats_.prefix_queries_tokens += sequence.num_prompt_tokens;
    stats_.prefix_hit_tokens += sequence.num_computed;
  }
  const int num_tokens =
      std::min({live->num_uncomputed(), options_.max_prefill_chunk, pass->prefill_tokens_left});
  TRIREME_CHECK(Reserve(live, sequence.num_computed + num_tokens));
  AddPrefill(live, num_tokens, pass);
  return true;
}

int Scheduler::SpareBlocks(const Pass& pass) const {
  return pool_.num_available() - pass.promised_blocks - (running_.empty() ? 0 : watermark_blocks_);
}

// Makes a slot and blocks available for a waiting sequence and holds its cached prefix. All or
// nothing, but that the estimate of what preemption yields counts shared blocks as if they came
// free.
bool Scheduler::MakeRoom(LiveSequence* live, const Pass& pass) {
  if (HoldPrefix(live, pass)) return true;
  if (num_paused_ == 0 &&
      (running_.empty() || running_.back()->sequence->priority <= live->sequence->priority)) {
    return false;
  }

  const auto gives_way = [&](const LiveSequence* other) {
    return other->sequence->paused || other->sequence->priority > live->sequence->priority;
  };
  std::vector<LiveSequence*> victims;  // the first to go last
  int num_blocks = 0;
  for (LiveSequence* other : running_) {
    if (!gives_way(other)) continue;
    victims.push_back(other);
    num_blocks += static_cast<int>(other->sequence->blocks.size());
  }
  const bool all = victims.size() == running_.size();
  if (!all && SpareBlocks(pass) + num_blocks < live->blocks_needed) return false;
  std::stable_partition(victims.begin(), victims.end(),
                        [](const LiveSequence* other) { return !other->sequence->paused; });
  while (!victims.empty()) {
    Preempt(victims.back());
    victims.pop_back();
    if (HoldPrefix(live, pass)) return true;
  }
  return false;
}

// Takes references on the cached prefix if then everything known of the sequence fits. Remembers
// what is missing, so that a front that waits costs O(1) per step.
bool Scheduler::HoldPrefix(LiveSequence* live, const Pass& pass) {
  if (running_.size() == static_cast<size_t>(options_.max_running)) return false;
  const int spare = SpareBlocks(pass);
  if (spare < live->blocks_needed) return false;

  Sequence& sequence = *live->sequence;
  if (options_.prefix_cache && !sequence.want_prompt_logits) {
    ExtendHashes(&sequence);
    // The last token is always computed: its logits are wanted.
    const size_t most = (live->num_tokens() - 1) / options_.block_size;
    pool_.AcquirePrefix(absl::MakeConstSpan(sequence.hashes).subspan(0, most), &sequence.blocks);
  }
  const int missing = BlocksFor(live->num_tokens()) - static_cast<int>(sequence.blocks.size());
  const int spare_now = SpareBlocks(pass);
  live->blocks_needed =
      missing + (spare - spare_now);  // cached blocks that are held are not available
  if (missing <= spare_now) return true;
  pool_.Release(sequence.blocks);
  sequence.blocks.clear();
  return false;
}

// Gives a running sequence blocks for its first `num_tokens` tokens, preempting what is junior or
// paused.
bool Scheduler::Reserve(LiveSequence* live, int num_tokens) {
  Sequence& sequence = *live->sequence;
  const int num_blocks = static_cast<int>(sequence.blocks.size());
  if (num_tokens <= num_blocks * options_.block_size) return true;
  const int missing = BlocksFor(num_tokens) - num_blocks;
  while (!pool_.Grow(missing, &sequence.blocks)) {
    const auto paused = std::find_if(running_.rbegin(), running_.rend(),
                                     [](const LiveSequence* l) { return l->sequence->paused; });
    LiveSequence* victim = paused != running_.rend() ? *paused : running_.back();
    if (victim == live) return false;
    Preempt(victim);
  }
  return true;
}

// A chunk of a sequence's known tokens, whose blocks are reserved: its row comes behind the decode
// rows. None is a chunk, too: the sequence goes on in a later step.
void Scheduler::AddPrefill(LiveSequence* live, int num_tokens, Pass* pass) {
  const int num_blocks = static_cast<int>(live->sequence->blocks.size());
  pass->promised_blocks += BlocksFor(live->num_tokens()) - num_blocks;
  if (num_tokens == 0) return;
  live->planned_for = stats_.steps + 1;
  pass->prefills.emplace_back(live, num_tokens);
  pass->prefill_tokens_left -= num_tokens;
}

void Scheduler::AddRow(LiveSequence* live, int num_tokens) {
  const Sequence& sequence = *live->sequence;
  const int end = sequence.num_computed + num_tokens;
  next_.plan.rows.push_back(
      {.sequence = &sequence,
       .first_token = sequence.num_computed,
       .num_tokens = num_tokens,
       .sample = end == live->num_tokens() && sequence.limits.max_tokens > 0});
  next_.sequences.push_back(live);
  live->planned_for = stats_.steps + 1;
}

// Takes back what PlanAhead did for a sequence.
void Scheduler::DropRow(LiveSequence* live) {
  const auto row = static_cast<size_t>(live->next_row);
  TRIREME_CHECK(row < num_ahead_ && next_.sequences[row] == live);
  next_.plan.rows[row].sequence = nullptr;
  next_.sequences[row] = nullptr;
  ++num_dropped_;
  live->planned_for = stats_.steps;  // that step had a row of it
  Sequence& sequence = *live->sequence;
  const int kept = BlocksFor(plan_outstanding_ ? live->num_tokens() : sequence.num_computed);
  while (static_cast<int>(sequence.blocks.size()) > kept) {
    pool_.Release({&sequence.blocks.back(), 1});
    sequence.blocks.pop_back();
  }
}

// Never one that this Plan has served: a victim is paused, or junior to who is served.
void Scheduler::Preempt(LiveSequence* victim) {
  if (IsNext(*victim)) DropRow(victim);
  Sequence& sequence = *victim->sequence;
  running_.erase(std::lower_bound(running_.begin(), running_.end(), victim, MoreSenior()));
  pool_.Release(sequence.blocks);
  sequence.blocks.clear();
  sequence.num_computed = sequence.num_published = 0;
  ++sequence.num_preemptions;
  if (sequence.paused) --num_paused_;
  ++stats_.preemptions;
  victim->running = false;
  victim->blocks_needed = 0;
  waiting_.Insert(victim);
}

}  // namespace trireme
