// One Generate call: a reactor that moves deltas from a Generation to the wire, one write at a
// time.
//
// Threads: gRPC's own call the reactor's methods; the engine thread only pushes to the pump when
// something is ready, and the pump goes on from there. The mutex orders them. Nothing is taken from
// the generation while a write is pending: back pressure reaches the engine's bounded stream. A
// client that takes nothing for longer than the write timeout loses the call.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "server/grpc/call_record.h"
#include "server/grpc/convert.h"

namespace trireme::rpc {

class CallPump;

class GenerateCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  class Handle;

  // Deletes itself after gRPC's OnDone. All outlive the call.
  GenerateCall(const ServiceContext* context, CallPump* pump, grpc::CallbackServerContext* call);

  // Once. `request`: a GenerateRequest. Conversion, template and tokenization go to the node's
  // workers.
  void Begin(const grpc::ByteBuffer& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  absl::StatusOr<Tenant> Receive(const grpc::ByteBuffer& bytes, v1::GenerateRequest* wire);
  void Fail(const absl::Status& status);
  void Prepared(const TextRequest& request, absl::StatusOr<std::vector<GenerateRequest>> prepared);
  // The lock is held in all of these.
  void Pump();
  void Write(const ChoiceDelta& delta);
  void WatchForNews();
  void Close(const absl::Status& status);
  void ExpectProgress();
  void SetAlarm(std::chrono::steady_clock::duration delay);
  void CheckProgress();

  const ServiceContext* const context_;
  CallPump* const pump_;
  grpc::CallbackServerContext* const call_;
  const std::shared_ptr<Handle> handle_;
  std::string request_id_;  // constant once Received

  std::mutex mu_;
  // Guarded by mu_.
  CallRecord record_;
  RequestRegistry::Ticket ticket_;
  std::string model_;  // as the client spelt it, once it was found
  std::unique_ptr<Generation> generation_;
  absl::Span<ChoiceDelta> pending_;  // the generation's, not written yet
  bool has_news_ = false;            // the generation may have more
  v1::GenerateResponse response_;    // keeps its memory
  grpc::ByteBuffer outgoing_;        // response_, while it is written
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
  Handle(GenerateCall* call, CallPump* pump) : pump_(pump), call_(call) {}
  bool running();  // false when the call is over
  void OnNews();
  void Cancel();
  void CheckProgress();

 private:
  friend class GenerateCall;
  CallPump* const pump_;
  std::mutex mu_;       // taken before the call's
  GenerateCall* call_;  // guarded by mu_
};

}  // namespace trireme::rpc
