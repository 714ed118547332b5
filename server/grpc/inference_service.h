// trireme.v1.Inference: authenticates, converts, and hands over to the node.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/base/worker_pool.h"
#include "server/grpc/generate_call.h"
#include "trireme/v1/inference.grpc.pb.h"

namespace trireme::rpc {

class InferenceService final : public v1::Inference::CallbackService {
 public:
  // `context` outlives the service.
  explicit InferenceService(const ServiceContext* context);

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
  absl::Status DoTokenize(const v1::TokenizeRequest& request, v1::TokenizeResponse* response) const;

  // Runs `work` on the node's workers, unless nobody waits for it any more, and finishes the call
  // with its status.
  template <typename Work>
  grpc::ServerUnaryReactor* OnWorkers(std::string_view route, grpc::CallbackServerContext* context,
                                      size_t request_bytes,
                                      const google::protobuf::Message* response, Work work);
  // For what takes no time: a busy node must still tell its load.
  template <typename Fill>
  grpc::ServerUnaryReactor* AtOnce(std::string_view route, grpc::CallbackServerContext* context,
                                   const google::protobuf::Message* response, Fill fill);

  const ServiceContext* const context_;
  Node* const node_;
  const absl::Time started_;

  WorkerPool pump_;  // last: its thread uses the members above
};

}  // namespace trireme::rpc
