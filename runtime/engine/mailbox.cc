#include "runtime/engine/mailbox.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/engine/refusals.h"

namespace trireme::internal {
namespace {

constexpr absl::Duration kLongestSleep =
    absl::Hours(1);  // far below what the chrono types can hold

}  // namespace

Mailbox::Mailbox(const EngineOptions& options)
    : max_inbox_(options.max_inbox),
      max_queued_(static_cast<size_t>(options.scheduler.max_waiting_requests)),
      max_queued_prompt_tokens_(options.scheduler.max_waiting_prompt_tokens) {}

absl::Status Mailbox::Refusal(const Submission& submission) const {
  if (!refusal_.ok()) return refusal_;
  const int64_t prompt_tokens = submission.sequence->num_prompt_tokens;
  if (mail_.submissions.size() >= max_inbox_ || queued_ >= max_queued_ ||
      (queued_ > 0 && queued_prompt_tokens_ + prompt_tokens > max_queued_prompt_tokens_)) {
    return Overloaded("the request queue is full, try again later");
  }
  return absl::OkStatus();
}

absl::Status Mailbox::Post(Submission submission) {
  std::lock_guard lock(mu_);
  if (absl::Status refusal = Refusal(submission); !refusal.ok()) {
    ++stats_.refused;
    return refusal;
  }
  ++stats_.submitted;
  ++live_;
  ++queued_;
  queued_prompt_tokens_ += submission.sequence->num_prompt_tokens;
  mail_.submissions.push_back(std::move(submission));
  Changed();
  return absl::OkStatus();
}

void Mailbox::PostCancel(RequestId id, FinishReason reason) {
  std::lock_guard lock(mu_);
  if (mail_.closed) return;
  // Mostly young ones are still here.
  const auto mine = std::find_if(mail_.submissions.rbegin(), mail_.submissions.rend(),
                                 [id](const Submission& s) { return s.sequence->id == id; });
  if (mine == mail_.submissions.rend()) {
    mail_.cancelled.push_back({id, reason});
  } else if (mine->withdrawn == FinishReason::kNone) {
    // A long step may be running: what it stood for must not wait for the step's end.
    mine->withdrawn = reason;
    LeaveQueue(mine->sequence->num_prompt_tokens);
    mine->sequence->tokens = {};
    mine->request = {};
  }
  Changed();
}

void Mailbox::PostResume(RequestId id) {
  std::lock_guard lock(mu_);
  if (mail_.closed) return;
  mail_.resumed.push_back(id);
  Changed();
}

void Mailbox::Wake() {
  std::lock_guard lock(mu_);
  Changed();
}

void Mailbox::Close() {
  std::lock_guard lock(mu_);
  if (refusal_.ok()) refusal_ = ShuttingDown();
  mail_.closed = true;
  Changed();
}

void Mailbox::CountRefused() {
  std::lock_guard lock(mu_);
  ++stats_.refused;
}

void Mailbox::Drain(absl::Time deadline) {
  std::unique_lock lock(mu_);
  stats_.draining = true;
  if (refusal_.ok()) refusal_ = Draining();
  mail_.drain_deadline = std::min(mail_.drain_deadline, deadline);
  Changed();
  idle_or_checked_.wait(lock, [this] { return live_ == 0; });
}

void Mailbox::WaitIdleAndCheck() {
  std::unique_lock lock(mu_);
  idle_or_checked_.wait(lock, [this] { return live_ == 0; });
  const uint64_t wanted = checks_done_ + 1;
  mail_.check_invariants = true;
  Changed();
  idle_or_checked_.wait(lock, [&] { return checks_done_ >= wanted; });
}

absl::Status Mailbox::accepting() const {
  std::lock_guard lock(mu_);
  return refusal_;
}

EngineStats Mailbox::stats() const {
  std::lock_guard lock(mu_);
  EngineStats stats = stats_;
  for (const Submission& submission : mail_.submissions) {
    if (submission.withdrawn != FinishReason::kNone) continue;
    ++stats.scheduler.waiting;
    stats.scheduler.waiting_prompt_tokens += submission.sequence->num_prompt_tokens;
  }
  return stats;
}

Mail Mailbox::Take(absl::Duration patience) {
  std::unique_lock lock(mu_);
  if (patience > absl::ZeroDuration()) {
    const auto sleep = absl::ToChronoNanoseconds(std::min(patience, kLongestSleep));
    mail_arrived_.wait_for(lock, sleep, [this] { return has_mail_; });
  }
  has_mail_ = false;
  Mail taken = std::exchange(mail_, {});
  // Facts that last, unlike the messages.
  mail_.drain_deadline = taken.drain_deadline;
  mail_.closed = taken.closed;
  return taken;
}

void Mailbox::DeviceLost(absl::Status reason) {
  std::function<void()> lost;
  {
    std::lock_guard lock(mu_);
    refusal_ = std::move(reason);
    stats_.device_lost = true;
    lost = std::exchange(device_lost_, nullptr);
  }
  if (lost) lost();
}

void Mailbox::WatchDevice(std::function<void()> lost) {
  {
    std::lock_guard lock(mu_);
    if (!stats_.device_lost) {
      device_lost_ = std::move(lost);
      return;
    }
  }
  lost();
}

void Mailbox::LeftQueue(int num_prompt_tokens) {
  std::lock_guard lock(mu_);
  LeaveQueue(num_prompt_tokens);
}

void Mailbox::LeaveQueue(int64_t num_prompt_tokens) {
  TRIREME_CHECK(queued_ > 0);
  --queued_;
  queued_prompt_tokens_ -= num_prompt_tokens;
}

void Mailbox::CountFinished(FinishReason reason) {
  std::lock_guard lock(mu_);
  switch (reason) {
    case FinishReason::kStop:
      ++stats_.finished_stop;
      break;
    case FinishReason::kLength:
      ++stats_.finished_length;
      break;
    case FinishReason::kCancelled:
      ++stats_.cancelled;
      break;
    default:
      ++stats_.failed;
      break;
  }
}

void Mailbox::Retire() {
  std::lock_guard lock(mu_);
  TRIREME_CHECK(live_ > 0);
  if (--live_ == 0) idle_or_checked_.notify_all();
}

void Mailbox::Publish(const SchedulerStats& scheduler) {
  std::lock_guard lock(mu_);
  stats_.scheduler = scheduler;
}

void Mailbox::InvariantsChecked() {
  std::lock_guard lock(mu_);
  ++checks_done_;
  idle_or_checked_.notify_all();
}

void Mailbox::Changed() {
  has_mail_ = true;
  mail_arrived_.notify_one();
}

}  // namespace trireme::internal
