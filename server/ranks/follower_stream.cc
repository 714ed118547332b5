#include "server/ranks/follower_stream.h"

#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/ranks/step_codec.h"

namespace trireme {
namespace {

constexpr size_t kMaxFailureBytes = 512;  // of what a follower says of itself

}  // namespace

void FollowerStream::Serve(const std::function<void(const absl::Status&)>& lost) {
  v1::FollowerMessage message;
  while (stream_->Read(&message)) {
    std::unique_lock lock(mu_);
    // Followers speak when they are spoken to: what comes earlier waits here, and in the network.
    changed_.wait(lock, [&] { return !received_ || !error_.ok() || stopped_; });
    if (!error_.ok() || stopped_) break;
    if (message.has_failure()) {
      error_ = absl::InternalError(Printable(message.failure().message(), kMaxFailureBytes));
    } else {
      received_ = std::move(message);
    }
    changed_.notify_all();
  }
  absl::Status error;
  bool stopped;
  {
    std::unique_lock lock(mu_);
    if (error_.ok()) error_ = absl::UnavailableError("the connection has ended");
    error = error_;
    stopped = stopped_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !writing_; });
    ended_ = true;
  }
  if (!stopped) lost(Annotate(error, StrCat("node ", node_rank_)));
}

absl::Status FollowerStream::Send(const v1::LeaderMessage& message) {
  {
    std::lock_guard lock(mu_);
    if (!error_.ok()) return error_;
    writing_ = true;
  }
  const bool written = stream_->Write(message);
  std::lock_guard lock(mu_);
  writing_ = false;
  changed_.notify_all();
  // Why not, the reader knows better: soon.
  return written || error_.ok() ? absl::OkStatus() : error_;
}

absl::StatusOr<std::optional<v1::FollowerMessage>> FollowerStream::Receive(
    v1::FollowerMessage::KindCase kind, std::chrono::seconds patience) {
  std::unique_lock lock(mu_);
  changed_.wait_for(lock, patience, [&] { return received_ || !error_.ok(); });
  if (!error_.ok()) return error_;
  std::optional<v1::FollowerMessage> message = std::exchange(received_, std::nullopt);
  changed_.notify_all();
  if (message && message->kind_case() != kind) {
    return absl::InternalError(StrCat("it sent message ", static_cast<int>(message->kind_case()),
                                      " of ranks.proto in place of ", static_cast<int>(kind)));
  }
  return message;
}

void FollowerStream::Stop(const std::string& error) {
  {
    std::lock_guard lock(mu_);
    stopped_ = true;
    changed_.notify_all();
  }
  v1::LeaderMessage message;
  message.mutable_stop()->set_error(error);
  Send(message).IgnoreError();  // then it is gone already
}

absl::Status FollowerStream::Forward(const BatchView& batch) {
  EncodeStep(batch, block_size_, step_.mutable_step());
  TRIREME_RETURN_IF_ERROR(Send(step_));
  for (;;) {  // the watchdog of Ranks ends it
    TRIREME_ASSIGN_OR_RETURN(const auto done,
                             Receive(v1::FollowerMessage::kStepDone, std::chrono::seconds(60)));
    if (done) return absl::OkStatus();
  }
}

void FollowerStream::Abort() {
  std::lock_guard lock(mu_);
  if (error_.ok()) error_ = absl::UnavailableError("the pass was given up");
  if (!ended_) context_->TryCancel();
  changed_.notify_all();
}

}  // namespace trireme
