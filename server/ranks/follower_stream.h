// The leader's end of the call of one follower. One thread reads it (Serve), another one writes and
// waits (the rest).
#pragma once

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>

#include "runtime/engine/ranks.h"
#include "trireme/v1/ranks.grpc.pb.h"

namespace trireme {

class FollowerStream final : public RemoteNode {
 public:
  using Stream = grpc::ServerReaderWriter<v1::LeaderMessage, v1::FollowerMessage>;

  // Both are the handler's, which returns after Serve has.
  FollowerStream(int node_rank, grpc::ServerContext* context, Stream* stream)
      : node_rank_(node_rank), context_(context), stream_(stream) {}

  // Reads until the call ends, then tells `lost` unless Stop had been sent.
  void Serve(const std::function<void(const absl::Status&)>& lost);

  absl::Status Send(const v1::LeaderMessage& message);
  // Waits for the next message, which must be of this kind. Without one within `patience`:
  // nullopt. Errors are the node's failure, or UNAVAILABLE: it is gone.
  absl::StatusOr<std::optional<v1::FollowerMessage>> Receive(v1::FollowerMessage::KindCase kind,
                                                             std::chrono::seconds patience);
  void Stop(const std::string& error);

  void set_block_size(int block_size) { block_size_ = block_size; }
  absl::Status Forward(const BatchView& batch) override;
  void Abort() override;

 private:
  const int node_rank_;
  int block_size_ = 0;
  v1::LeaderMessage step_;  // kept for its memory

  std::mutex mu_;
  std::condition_variable changed_;
  // Guarded by mu_.
  grpc::ServerContext* const context_;
  Stream* const stream_;
  std::optional<v1::FollowerMessage> received_;
  absl::Status error_;  // why nothing will be received any more
  bool writing_ = false, stopped_ = false, ended_ = false;
};

}  // namespace trireme
