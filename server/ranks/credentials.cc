#include "server/ranks/credentials.h"

#include <string>

#include "runtime/base/file.h"
#include "runtime/base/status.h"

namespace trireme {
namespace {

struct Pems {
  std::string cert, key, ca;
};

absl::StatusOr<Pems> ReadPems(const RankGroupOptions& options) {
  Pems pems;
  TRIREME_ASSIGN_OR_RETURN(pems.cert, ReadSetting(options.cert_file, "--ranks-cert"));
  TRIREME_ASSIGN_OR_RETURN(pems.key, ReadSetting(options.key_file, "--ranks-key"));
  TRIREME_ASSIGN_OR_RETURN(pems.ca, ReadSetting(options.ca_file, "--ranks-ca"));
  return pems;
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> LeaderCredentials(
    const RankGroupOptions& options) {
  if (options.cert_file.empty()) return grpc::InsecureServerCredentials();
  TRIREME_ASSIGN_OR_RETURN(const Pems pems, ReadPems(options));
  grpc::SslServerCredentialsOptions ssl(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  ssl.pem_root_certs = pems.ca;
  ssl.pem_key_cert_pairs.push_back({pems.key, pems.cert});
  return grpc::SslServerCredentials(ssl);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> FollowerCredentials(
    const RankGroupOptions& options) {
  if (options.cert_file.empty()) return grpc::InsecureChannelCredentials();
  TRIREME_ASSIGN_OR_RETURN(const Pems pems, ReadPems(options));
  return grpc::SslCredentials({pems.ca, pems.key, pems.cert});
}

}  // namespace trireme
