// Server reflection over the callback API, for both published versions of the protocol
// (grpc.reflection.v1 and v1alpha; their messages are the same). Answers from the generated
// descriptor pool.
#pragma once

#include <grpcpp/impl/service_type.h>

#include <memory>
#include <string>
#include <vector>

namespace trireme::rpc {

// `services`: full names that list_services reports.
std::unique_ptr<grpc::Service> MakeReflectionV1(std::vector<std::string> services);
std::unique_ptr<grpc::Service> MakeReflectionV1Alpha(std::vector<std::string> services);

}  // namespace trireme::rpc
