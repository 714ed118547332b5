// One request's stream: the engine thread appends, one reader takes. Shared by both; either may go
// first.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "absl/functional/any_invocable.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/mailbox.h"

namespace trireme::internal {

class StreamState {
 public:
  StreamState(RequestId id, std::shared_ptr<Mailbox> mailbox, const Clock* clock, size_t max_unread,
              const RequestRecord& record = {})
      : id(id),
        mailbox_(std::move(mailbox)),
        clock_(clock),
        max_unread_(max_unread),
        record_(record) {}

  // ---- Engine thread.
  // What record() tells from now on.
  void Note(const RequestRecord& record);
  // Adds to what the reader has not taken yet, and tells it. True when the reader has just fallen
  // too far behind: the request is to be paused, and a resume will be posted when the reader has
  // caught up. `record`: what record() tells from now on.
  bool Append(SequenceEvent&& event, const RequestRecord& record);

  // ---- Reader; see RequestStream.
  RequestRecord record() const;
  std::optional<StreamEvent> TryNext();
  bool TryNext(StreamEvent* event);
  absl::StatusOr<StreamEvent> Next(absl::Time deadline);
  void NotifyWhenReady(absl::AnyInvocable<void()> ready);
  void Cancel(FinishReason reason);
  // The reader is gone: cancels, and returns when no `ready` is running in another thread.
  void Abandon();

  const RequestId id;

 private:
  void Notify(std::unique_lock<std::mutex>& lock);

  // Constant after construction.
  const std::shared_ptr<Mailbox> mailbox_;
  const Clock* const clock_;  // of the engine; used by readers only while the engine lives
  const size_t max_unread_;

  // Guarded by mu_.
  mutable std::mutex mu_;
  RequestRecord record_;
  std::condition_variable changed_;  // unread_ or notifying_
  StreamEvent unread_;
  bool has_unread_ = false;
  bool ended_ = false;  // the last event has been appended
  bool paused_ = false;
  bool cancelled_ = false;  // cancellation has been posted
  bool abandoned_ = false;
  absl::AnyInvocable<void()> ready_;
  std::optional<std::thread::id> notifying_;  // the engine thread is calling `ready`
};

}  // namespace trireme::internal
