// trireme.v1.Inference: authenticates, converts, and hands over to the node.
#pragma once

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "runtime/base/worker_pool.h"
#include "server/admission/keys.h"
#include "server/grpc/generate_call.h"
#include "trireme/v1/inference.grpc.pb.h"

namespace trireme::rpc {

class InferenceService final : public v1::Inference::CallbackService {
 public:
  // Both must outlive the service.
  InferenceService(Node* node, const KeyStore* keys);

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const v1::AbortRequest* request,
                                  v1::AbortResponse* response) override;
  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* context,
                                         const v1::GetModelInfoRequest* request,
                                         v1::GetModelInfoResponse* response) override;
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest* request,
                                          v1::GetServerInfoResponse* response) override;
  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* context,
                                    const v1::GetLoadRequest* request,
                                    v1::GetLoadResponse* response) override;

 private:
  // The tenant of the call's key. UNAUTHENTICATED without saying why.
  absl::StatusOr<std::string> Authenticate(const grpc::CallbackServerContext& context) const;
  absl::Status DoTokenize(const v1::TokenizeRequest& request, v1::TokenizeResponse* response) const;

  // Runs `work` on the node's workers and finishes the call with its status.
  template <typename Work>
  grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context, Work work);

  Node* const node_;
  const KeyStore* const keys_;
  const absl::Time started_;

  // Calls by (tenant, request id), for Abort. Entries of finished calls are dropped when the table
  // has doubled.
  absl::Mutex mu_;
  absl::flat_hash_map<std::string, std::weak_ptr<GenerateCall::Handle>> calls_ ABSL_GUARDED_BY(mu_);
  size_t sweep_at_ ABSL_GUARDED_BY(mu_) = 1024;
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;

  WorkerPool pump_;  // last: its thread uses the members above
};

}  // namespace trireme::rpc
