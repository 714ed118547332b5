// What all calls have in common, whatever their method: who may call, how the end is told, and what
// is told of it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/grpc/service_context.h"
#include "server/node/generation.h"
#include "server/observe/finished_request.h"

namespace trireme::rpc {

// What a call's metadata may take, beyond which it is refused. As for HTTP's request heads.
constexpr size_t kMaxMetadataBytes = 64 << 10;

// One call. Not thread-safe: its owner's lock or the order of gRPC's callbacks guards it.
class CallRecord {
 public:
  // `route` is "package.Service/Method", a literal. `context` outlives the record, `call` does
  // until OnDone.
  CallRecord(const ServiceContext* context, std::string_view route,
             grpc::CallbackServerContext* call);

  ~CallRecord();

  // The tenant of the call's key (metadata `authorization: Bearer KEY` or `api-key: KEY`).
  // UNAUTHENTICATED, RESOURCE_EXHAUSTED (more metadata than a call may have).
  absl::StatusOr<Tenant> Authenticate();
  // Counts what the request takes, as bytes and as the message made of them, until the record dies,
  // against what all calls together may hold. RESOURCE_EXHAUSTED (code "overloaded"). Once.
  absl::Status Charge(size_t request_bytes);
  // Made up unless set.
  const std::string& id() const { return record_.id; }
  void set_id(std::string id) { record_.id = std::move(id); }
  void AddReceived(size_t bytes) { record_.bytes_received += bytes; }
  void AddSent(size_t bytes) { record_.bytes_sent += bytes; }
  // What became of the generation, as far as it got.
  void SetGeneration(std::string_view model, const Generation& generation);
  // `status` as Finish takes it. Param and code go into the call's trailing metadata. Once.
  grpc::Status End(const absl::Status& status);
  // For OnDone: tells how the call ended.
  void Report();

 private:
  const ServiceContext* const context_;
  grpc::CallbackServerContext* const call_;
  FinishedRequest record_;
  int64_t charged_bytes_ = 0;
};

}  // namespace trireme::rpc
