// Mutual TLS between the nodes that share a model.
#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "absl/status/statusor.h"
#include "server/ranks/rank_group.h"

namespace trireme {

// Of the files; plain ones without. Errors name the flag.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> LeaderCredentials(
    const RankGroupOptions& options);
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> FollowerCredentials(
    const RankGroupOptions& options);

}  // namespace trireme
