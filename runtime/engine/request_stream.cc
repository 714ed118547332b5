#include <algorithm>
#include <iterator>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/stream_state.h"

namespace trireme {
namespace internal {
namespace {

constexpr absl::Duration kLongestWait =
    absl::Hours(24 * 365);  // below what the chrono types can hold

void Merge(SequenceEvent&& from, StreamEvent* into) {
  into->prompt_logprobs.insert(into->prompt_logprobs.end(),
                               std::make_move_iterator(from.prompt_logprobs.begin()),
                               std::make_move_iterator(from.prompt_logprobs.end()));
  if (from.has_token) into->tokens.push_back(std::move(from.token));
  if (from.finish != FinishReason::kNone) into->finish = from.finish;
  if (!from.error.ok()) into->error = std::move(from.error);
  into->num_cached_prompt_tokens =
      std::max(into->num_cached_prompt_tokens, from.num_cached_prompt_tokens);
}

}  // namespace

void StreamState::Note(const RequestRecord& record) {
  std::lock_guard lock(mu_);
  record_ = record;
}

RequestRecord StreamState::record() const {
  std::lock_guard lock(mu_);
  return record_;
}

bool StreamState::Append(SequenceEvent&& event, const RequestRecord& record) {
  std::unique_lock lock(mu_);
  record_ = record;
  TRIREME_CHECK(!ended_);
  ended_ = event.finish != FinishReason::kNone;
  if (abandoned_) return false;
  Merge(std::move(event), &unread_);
  has_unread_ = true;
  const bool pause = !paused_ && !ended_ && unread_.tokens.size() > max_unread_;
  paused_ |= pause;
  changed_.notify_all();
  Notify(lock);
  return pause;
}

// Calls `ready` without the lock, so that it may use the stream, but visibly, so that Abandon can
// wait for its end.
void StreamState::Notify(std::unique_lock<std::mutex>& lock) {
  if (!ready_) return;
  absl::AnyInvocable<void()> ready = std::exchange(ready_, nullptr);
  notifying_ = std::this_thread::get_id();
  lock.unlock();
  ready();
  ready = nullptr;
  lock.lock();
  notifying_.reset();
  changed_.notify_all();
}

std::optional<StreamEvent> StreamState::TryNext() {
  StreamEvent event;
  if (!TryNext(&event)) return std::nullopt;
  return event;
}

bool StreamState::TryNext(StreamEvent* event) {
  event->Clear();
  std::unique_lock lock(mu_);
  if (!has_unread_) return false;
  has_unread_ = false;
  std::swap(*event, unread_);
  const bool resume = std::exchange(paused_, false) && !ended_;
  lock.unlock();
  if (resume) mailbox_->PostResume(id);
  return true;
}

absl::StatusOr<StreamEvent> StreamState::Next(absl::Time deadline) {
  {
    std::unique_lock lock(mu_);
    const auto something = [this] { return has_unread_ || ended_; };
    if (!something()) {  // so the engine and its clock are there still
      const absl::Duration patience = std::min(deadline - clock_->Now(), kLongestWait);
      changed_.wait_for(lock, absl::ToChronoNanoseconds(patience), something);
    }
    if (!has_unread_) {
      if (ended_) return absl::OutOfRangeError("the stream has ended");
      return absl::DeadlineExceededError("nothing arrived in time");
    }
  }
  return *TryNext();
}

void StreamState::NotifyWhenReady(absl::AnyInvocable<void()> ready) {
  {
    std::lock_guard lock(mu_);
    if (!has_unread_ && !ended_) {
      ready_ = std::move(ready);
      return;
    }
    ready_ = nullptr;
  }
  ready();
}

void StreamState::Cancel(FinishReason reason) {
  {
    std::lock_guard lock(mu_);
    if (ended_ || std::exchange(cancelled_, true)) return;
  }
  mailbox_->PostCancel(id, reason);
}

void StreamState::Abandon() {
  Cancel(FinishReason::kCancelled);
  absl::AnyInvocable<void()> dropped;  // destroyed without the lock
  std::unique_lock lock(mu_);
  abandoned_ = true;
  dropped = std::exchange(ready_, nullptr);
  unread_ = {};
  changed_.wait(lock, [this] {
    return !notifying_ ||
           *notifying_ == std::this_thread::get_id();  // `ready` itself may destroy the stream
  });
}

}  // namespace internal

RequestStream::RequestStream(std::shared_ptr<internal::StreamState> state)
    : state_(std::move(state)) {}
RequestStream::RequestStream(RequestStream&&) noexcept = default;
RequestStream& RequestStream::operator=(RequestStream&& other) noexcept {
  RequestStream old(std::move(*this));  // cancels what it held
  state_ = std::move(other.state_);
  return *this;
}
RequestStream::~RequestStream() {
  if (state_) state_->Abandon();
}

RequestId RequestStream::id() const { return state_->id; }
RequestRecord RequestStream::record() const { return state_->record(); }
std::optional<StreamEvent> RequestStream::TryNext() { return state_->TryNext(); }
bool RequestStream::TryNext(StreamEvent* event) { return state_->TryNext(event); }
absl::StatusOr<StreamEvent> RequestStream::Next(absl::Time deadline) {
  return state_->Next(deadline);
}
void RequestStream::NotifyWhenReady(absl::AnyInvocable<void()> ready) {
  state_->NotifyWhenReady(std::move(ready));
}
void RequestStream::Cancel(FinishReason reason) { state_->Cancel(reason); }

}  // namespace trireme
