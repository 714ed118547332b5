// The gRPC door: trireme.v1.Inference, grpc.health.v1.Health, and server reflection (v1 and
// v1alpha).
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/admission/keys.h"
#include "server/net/acceptor.h"
#include "server/node/node.h"
#include "server/observe/telemetry.h"

namespace trireme {

struct GrpcServerOptions {
  int max_message_bytes = 32 << 20;  // a larger request is RESOURCE_EXHAUSTED before it is parsed
  int max_streams_per_connection = 1024;
  std::string tls_cert_pem, tls_key_pem;  // both or none
  // A Generate whose client takes nothing for so long ends with RESOURCE_EXHAUSTED; after as long
  // again without reading that status, the call is dropped.
  absl::Duration write_timeout = absl::Seconds(30);
};

// Thread-safe. `clock`, `keys` and `telemetry` must outlive the server.
// With keys, everything but grpc.health.v1 needs one.
class GrpcServer {
 public:
  // Listens. Health is NOT_SERVING, and every method of ours is refused with Loading(). Errors of
  // Acceptor::Listen (server/net/acceptor.h).
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcServerOptions& options,
                                                           BoundPort port, const Clock* clock,
                                                           const KeyStore* keys,
                                                           Telemetry* telemetry);
  ~GrpcServer();

  int port() const;
  // From now on everything is answered, by `node`, which must outlive the server, and health is
  // SERVING. Once.
  void SetNode(Node* node);
  // What grpc.health.v1 answers, for "" and for each service.
  void SetServing(bool serving);
  // Stops accepting; calls in flight get until `deadline`, then CANCELLED. Blocks.
  void Shutdown(absl::Time deadline);

 private:
  struct Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme
