// The other nodes' end of the control plane (proto/trireme/v1/ranks.proto).
#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "server/ranks/rank_group.h"
#include "trireme/v1/ranks.pb.h"

namespace trireme {

// Used by one thread.
class ControlFollower {
 public:
  // Says Hello and waits for the leader's Start; a leader that does not answer yet is tried again,
  // for ten minutes. `lost` hears, once and from another thread, when the call ends but for an
  // orderly Stop, and Fail: what the caller is in the midst of may never end then. Errors: the
  // leader turned this node away, or could not start, or is not there, or TLS did not come about.
  static absl::StatusOr<std::unique_ptr<ControlFollower>> Join(
      const RankGroupOptions& options, const v1::FollowerMessage::Hello& hello,
      std::function<void(const absl::Status& error)> lost);
  ~ControlFollower();

  const v1::LeaderMessage::Start& start() const;

  // The call's end shows in Receive.
  void Send(const v1::FollowerMessage& message);
  // Waits for the leader's next message: KvCache, Step, or Stop. UNAVAILABLE: the call has ended.
  absl::StatusOr<v1::LeaderMessage> Receive();
  // The last thing to say.
  void Fail(const absl::Status& error);

 private:
  class Impl;
  explicit ControlFollower(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme
