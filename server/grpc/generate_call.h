// One Generate call: a reactor that moves deltas from a Generation to the wire, one write at a
// time.
//
// Threads: gRPC's own call the reactor's methods; the engine thread only posts to `pump` when
// something is ready. The mutex orders them. Nothing is taken from the generation while a write is
// pending: back pressure reaches the engine's bounded stream.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "runtime/base/worker_pool.h"
#include "server/grpc/convert.h"

namespace trireme::rpc {

class GenerateCall final : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  // Deletes itself after gRPC's OnDone. `pump` runs the continuation; both outlive the call.
  GenerateCall(Node* node, WorkerPool* pump, grpc::CallbackServerContext* context,
               std::string request_id);

  // Exactly one of these, once, right after construction.
  void Begin(TextRequest request);  // template and tokenization go to node->workers
  void Fail(const absl::Status& status);

  // Thread-safe handle for Abort; outlives the call.
  class Handle;
  std::shared_ptr<Handle> handle() const { return handle_; }

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  void Prepared(const TextRequest& request, absl::StatusOr<std::vector<GenerateRequest>> prepared);
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Close(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Wait() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Node* const node_;
  WorkerPool* const pump_;
  grpc::CallbackServerContext* const context_;
  const std::string request_id_;
  const std::shared_ptr<Handle> handle_;

  absl::Mutex mu_;
  std::unique_ptr<Generation> generation_ ABSL_GUARDED_BY(mu_);
  std::deque<ChoiceDelta> pending_ ABSL_GUARDED_BY(mu_);
  v1::GenerateResponse response_ ABSL_GUARDED_BY(mu_);
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;  // Finish was called
};

// Lets other threads reach a call that may be gone: every use holds the handle's mutex, OnDone
// clears the pointer.
class GenerateCall::Handle {
 public:
  explicit Handle(GenerateCall* call) : call_(call) {}
  void Pump();
  bool Cancel();  // false when the call is over

 private:
  friend class GenerateCall;
  absl::Mutex mu_;
  GenerateCall* call_ ABSL_GUARDED_BY(mu_);
};

}  // namespace trireme::rpc
