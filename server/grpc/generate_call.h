// One Generate call: a reactor that moves deltas from a Generation to the wire, one write at a
// time.
//
// Threads: gRPC's own call the reactor's methods; the engine thread only posts to `pump` when
// something is ready. The mutex orders them. Nothing is taken from the generation while a write is
// pending: back pressure reaches the engine's bounded stream. A client that takes nothing for
// longer than the write timeout loses the call.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "runtime/base/worker_pool.h"
#include "server/grpc/call_record.h"
#include "server/grpc/convert.h"

namespace trireme::rpc {

class GenerateCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  // Deletes itself after gRPC's OnDone. `pump` runs the continuation; all outlive the call.
  GenerateCall(const ServiceContext* context, WorkerPool* pump, grpc::CallbackServerContext* call);

  // Once. `request`: a GenerateRequest. Conversion, template and tokenization go to the node's
  // workers.
  void Begin(const grpc::ByteBuffer& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  class Handle;

  absl::StatusOr<Tenant> Receive(const grpc::ByteBuffer& bytes, v1::GenerateRequest* wire);
  void Fail(const absl::Status& status);
  void Prepared(const TextRequest& request, absl::StatusOr<std::vector<GenerateRequest>> prepared);
  // The lock is held in all of these.
  void Pump();
  void Wait();
  void Close(const absl::Status& status);
  void ExpectProgress();
  void SetAlarm(std::chrono::steady_clock::duration delay);
  void CheckProgress();

  const ServiceContext* const context_;
  WorkerPool* const pump_;
  grpc::CallbackServerContext* const call_;
  const std::shared_ptr<Handle> handle_;
  std::string request_id_;  // constant once Received

  std::mutex mu_;
  // Guarded by mu_.
  CallRecord record_;
  RequestRegistry::Ticket ticket_;
  std::string model_;  // as the client spelt it, once it was found
  std::unique_ptr<Generation> generation_;
  std::deque<ChoiceDelta> pending_;
  v1::GenerateResponse response_;
  grpc::ByteBuffer outgoing_;  // response_, while it is written
  bool writing_ = false;
  bool finished_ = false;                           // Finish was called
  std::chrono::steady_clock::time_point progress_;  // the last write or Finish began
  std::optional<grpc::Alarm> alarm_;
  bool alarm_set_ = false;  // its callback is still to come
};

// Lets other threads reach a call that may be gone: every use holds the handle's mutex, OnDone
// clears the pointer.
class GenerateCall::Handle {
 public:
  explicit Handle(GenerateCall* call) : call_(call) {}
  bool running();  // false when the call is over
  void Pump();
  void Cancel();
  void CheckProgress();

 private:
  friend class GenerateCall;
  std::mutex mu_;       // taken before the call's
  GenerateCall* call_;  // guarded by mu_
};

}  // namespace trireme::rpc
