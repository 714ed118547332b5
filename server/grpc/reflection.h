// Server reflection over the callback API, for both published versions of the protocol
// (grpc.reflection.v1 and v1alpha; their messages are the same). Answers from the generated
// descriptor pool.
#pragma once

#include <grpcpp/impl/service_type.h>

#include <memory>
#include <string>
#include <vector>

#include "server/grpc/service_context.h"

namespace trireme::rpc {

// `services`: full names that list_services reports. `context` outlives the service; with keys, its
// calls need one as all others do.
std::unique_ptr<grpc::Service> MakeReflectionV1(const ServiceContext* context,
                                                std::vector<std::string> services);
std::unique_ptr<grpc::Service> MakeReflectionV1Alpha(const ServiceContext* context,
                                                     std::vector<std::string> services);

}  // namespace trireme::rpc
