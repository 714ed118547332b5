// What all calls have in common, whatever their method: who may call, how the end is told, and that
// it is counted.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>

#include "absl/status/statusor.h"
#include "server/grpc/service_context.h"

namespace trireme::rpc {

// The tenant of the call's key (metadata `authorization: Bearer KEY`). UNAUTHENTICATED without
// saying why.
absl::StatusOr<std::string> Authenticate(const KeyStore& keys,
                                         const grpc::CallbackServerContext& context);

// One call. Not thread-safe: its owner's lock or the order of gRPC's callbacks guards it.
class CallRecord {
 public:
  // `method` is the name that metrics show; a literal. `context` outlives the record.
  CallRecord(const ServiceContext* context, const char* method);

  ~CallRecord();

  // Counts the bytes of the request, until the record dies, against what all calls together may
  // hold. RESOURCE_EXHAUSTED (code "overloaded"). Once.
  absl::Status Charge(size_t request_bytes);
  // `status` as Finish takes it. Param and code go into the trailing metadata of `call`. Once.
  grpc::Status End(const absl::Status& status, grpc::CallbackServerContext* call);
  // For OnDone: counts the call by the code that End was given.
  void Count() const;

 private:
  const ServiceContext* const context_;
  const char* const method_;
  const absl::Time begin_;
  absl::StatusCode code_ = absl::StatusCode::kOk;
  int64_t charged_bytes_ = 0;
};

}  // namespace trireme::rpc
