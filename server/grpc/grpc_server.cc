#include "server/grpc/grpc_server.h"

#include <grpcpp/ext/health_check_service_server_builder_option.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <boost/asio/post.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "grpc/health/v1/health.pb.h"
#include "runtime/base/status.h"
#include "server/grpc/call_record.h"
#include "server/grpc/inference_service.h"
#include "server/grpc/library_logs.h"
#include "server/grpc/reflection.h"
#include "server/grpc/tsan_order.h"
#include "server/net/acceptor.h"

namespace trireme {
namespace {

const char kInference[] = "trireme.v1.Inference";

// A client that pings more often than this is disconnected (ping flood).
constexpr int kMinPingIntervalMs = 10'000;
constexpr int kMaxPingStrikes = 8;
// The library ends a connection, all its calls and often before the client has read why, over what
// exceeds its own limit: that one is far above the one that calls are refused by.
constexpr int kLibraryMaxMetadataBytes = 4 * rpc::kMaxMetadataBytes;
constexpr size_t kMaxBufferBytes = 512 << 20;

std::shared_ptr<grpc::ServerCredentials> Credentials(const GrpcServerOptions& options) {
  if (options.tls_cert_pem.empty()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions ssl;
  ssl.pem_key_cert_pairs.push_back({options.tls_key_pem, options.tls_cert_pem});
  return grpc::SslServerCredentials(ssl);
}

}  // namespace

struct GrpcServer::Impl {
  Impl(const Clock* clock, const KeyStore* keys, Telemetry* telemetry, absl::Duration write_timeout,
       const std::vector<std::string>& services)
      : context{clock, keys, telemetry, write_timeout},
        inference(&context),
        reflection_v1(rpc::MakeReflectionV1(&context, services)),
        reflection_v1alpha(rpc::MakeReflectionV1Alpha(&context, services)) {}

  rpc::ServiceContext context;
  rpc::InferenceService inference;
  std::unique_ptr<grpc::Service> reflection_v1, reflection_v1alpha;
  // Accepts on a thread of its own and hands connections to gRPC.
  void Accept();
  void StopAccepting();

  boost::asio::io_context io{/*concurrency_hint=*/1};
  std::unique_ptr<Acceptor> acceptor;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections;
  std::unique_ptr<grpc::Server> server;
  std::thread accept_thread;
};

void GrpcServer::Impl::Accept() {
  acceptor->Start([this] { return &io; },
                  [this](Acceptor::Socket socket) {
                    boost::system::error_code error;
                    socket.set_option(boost::asio::ip::tcp::no_delay(true), error);
                    socket.native_non_blocking(true, error);
                    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters given;
                    given.fd = socket.release(error);
                    if (!error) connections->HandleNewConnection(&given);
                  });
  accept_thread = std::thread([this] { io.run(); });
}

void GrpcServer::Impl::StopAccepting() {
  if (!accept_thread.joinable()) return;
  boost::asio::post(io, [this] { acceptor->Close(); });  // then there is nothing left to run
  accept_thread.join();
}

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcServerOptions& options,
                                                              BoundPort port, const Clock* clock,
                                                              const KeyStore* keys,
                                                              Telemetry* telemetry) {
  rpc::RouteLibraryLogs();
  // Debian's Abseil has its debug checks on: each lock that gRPC takes would go through one graph
  // of all locks (110 ns in place of 24), and what looks like a cycle there would end the process.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  // Links the health messages into the descriptor pool, so that reflection can describe the
  // service.
  grpc::health::v1::HealthCheckRequest::descriptor();
  grpc::EnableDefaultHealthCheckService(true);

  auto impl =
      std::make_unique<Impl>(clock, keys, telemetry, options.write_timeout,
                             std::vector<std::string>{kInference, "grpc.health.v1.Health",
                                                      "grpc.reflection.v1.ServerReflection",
                                                      "grpc.reflection.v1alpha.ServerReflection"});
  TRIREME_ASSIGN_OR_RETURN(impl->acceptor, Acceptor::Listen(&impl->io, std::move(port)));
  grpc::ServerBuilder builder;
  impl->connections = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      Credentials(options));
  builder.SetMaxReceiveMessageSize(options.max_message_bytes);
  // Bounds what is received before a handler sees it, of whoever sends it.
  grpc::ResourceQuota quota("trireme");
  builder.SetResourceQuota(quota.Resize(kMaxBufferBytes));
  // The size limit holds for the wire only: a compressed message could expand to anything.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_streams_per_connection);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, kMaxPingStrikes);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kLibraryMaxMetadataBytes);
  builder.RegisterService(&impl->inference);
  builder.RegisterService(impl->reflection_v1.get());
  builder.RegisterService(impl->reflection_v1alpha.get());
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr) return absl::InternalError("gRPC did not start");
  std::unique_ptr<GrpcServer> server(new GrpcServer(std::move(impl)));
  server->SetServing(false);  // before anybody can ask
  server->impl_->Accept();
  return server;
}

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GrpcServer::~GrpcServer() { Shutdown(absl::UnixEpoch()); }

int GrpcServer::port() const { return impl_->acceptor->port(); }

void GrpcServer::SetNode(Node* node) {
  impl_->context.loaded.store(node);
  SetServing(true);
}

void GrpcServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* health = impl_->server->GetHealthCheckService();
  health->SetServingStatus("", serving);
  health->SetServingStatus(kInference, serving);
}

void GrpcServer::Shutdown(absl::Time deadline) {
  impl_->StopAccepting();
  impl_->server->Shutdown(absl::ToChronoTime(deadline));
  impl_->server->Wait();
  rpc::TakeOver(&impl_->context);
}

}  // namespace trireme
