// trireme.v1.Inference: authenticates, parses, and hands over to the node.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "server/grpc/call_pump.h"
#include "trireme/v1/inference.grpc.pb.h"

namespace trireme::rpc {

// The service with the bytes of all messages left to us (wire.h says why).
template <typename Base>
using RawInference =
    v1::Inference::WithRawCallbackMethod_Generate<v1::Inference::WithRawCallbackMethod_Tokenize<
        v1::Inference::WithRawCallbackMethod_Detokenize<v1::Inference::WithRawCallbackMethod_Abort<
            v1::Inference::WithRawCallbackMethod_GetModelInfo<
                v1::Inference::WithRawCallbackMethod_GetServerInfo<
                    v1::Inference::WithRawCallbackMethod_GetLoad<Base>>>>>>>;

class InferenceService final : public RawInference<v1::Inference::Service> {
 public:
  using Call = grpc::CallbackServerContext;
  using Bytes = grpc::ByteBuffer;

  // `context` outlives the service.
  explicit InferenceService(const ServiceContext* context);

  grpc::ServerWriteReactor<Bytes>* Generate(Call* call, const Bytes* request) override;
  grpc::ServerUnaryReactor* Tokenize(Call* call, const Bytes* request, Bytes* response) override;
  grpc::ServerUnaryReactor* Detokenize(Call* call, const Bytes* request, Bytes* response) override;
  grpc::ServerUnaryReactor* Abort(Call* call, const Bytes* request, Bytes* response) override;
  grpc::ServerUnaryReactor* GetModelInfo(Call* call, const Bytes* request,
                                         Bytes* response) override;
  grpc::ServerUnaryReactor* GetServerInfo(Call* call, const Bytes* request,
                                          Bytes* response) override;
  grpc::ServerUnaryReactor* GetLoad(Call* call, const Bytes* request, Bytes* response) override;

 private:
  // What each unary method does with its message.
  absl::Status DoTokenize(const Tenant& caller, const v1::TokenizeRequest& request,
                          v1::TokenizeResponse* response) const;
  absl::Status DoDetokenize(const Tenant& caller, const v1::DetokenizeRequest& request,
                            v1::DetokenizeResponse* response) const;
  absl::Status DoAbort(const Tenant& caller, const v1::AbortRequest& request,
                       v1::AbortResponse* response) const;
  absl::Status DoGetModelInfo(const Tenant& caller, const v1::GetModelInfoRequest& request,
                              v1::GetModelInfoResponse* response) const;
  absl::Status DoGetServerInfo(const Tenant& caller, const v1::GetServerInfoRequest& request,
                               v1::GetServerInfoResponse* response) const;
  absl::Status DoGetLoad(const Tenant& caller, const v1::GetLoadRequest& request,
                         v1::GetLoadResponse* response) const;

  // kAtOnce: for what takes no time; a busy node must still tell its load. Else on the node's
  // workers, unless nobody waits for it any more.
  enum class Where { kAtOnce, kWorkers };
  // One unary call from its first byte to its last.
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* Unary(
      std::string_view route, Where where, Call* call, const Bytes* request, Bytes* response,
      absl::Status (InferenceService::*work)(const Tenant&, const Request&, Response*) const);

  const Node& node() const { return context_->node(); }

  const ServiceContext* const context_;
  const absl::Time started_;

  CallPump pump_;  // last: its thread uses the members above
};

}  // namespace trireme::rpc
