#include "server/http/http_server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/base/version.h"
#include "server/dialects/openai/info.h"
#include "server/http/connection.h"

namespace trireme {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using http::Connection;

constexpr int kBacklog = 1024;
constexpr absl::Duration kLongestDrain = absl::Hours(24 * 365);  // what chrono can hold
// After an accept failed for want of descriptors or memory.
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

// One thread and the connections that live on it.
struct IoThread {
  asio::io_context io{/*concurrency_hint=*/1};
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(io);
  std::unordered_set<Connection*> connections;  // of this thread; each keeps itself alive
  std::thread thread;
};

bool IsResourceShortage(const error_code& error) {
  return error == asio::error::no_descriptors || error == asio::error::no_memory ||
         error == asio::error::no_buffer_space ||
         error == error_code(ENFILE, boost::system::system_category());
}

absl::Status BindError(const HttpServerOptions& options, const char* what,
                       const error_code& error) {
  const std::string message =
      StrCat("cannot ", what, " ", options.host, ":", options.port, ": ", error.message());
  if (error == asio::error::address_in_use) return absl::UnavailableError(message);
  if (error == asio::error::access_denied) return absl::PermissionDeniedError(message);
  return absl::InvalidArgumentError(message);
}

}  // namespace

struct HttpServer::Impl {
  explicit Impl(int num_threads) : threads(static_cast<size_t>(num_threads)) {}

  absl::Status Listen();
  void Run();
  void Accept();
  void OnAccept(IoThread* target, error_code error, tcp::socket socket);
  void Adopt(IoThread* target, tcp::socket socket);
  void OnClosed(IoThread* thread, Connection* connection);
  void ForEachConnection(void (Connection::*action)());
  bool AtLimit() const { return num_connections.load() >= context.options.max_connections; }

  http::ServerContext context;
  std::shared_ptr<asio::ssl::context> tls;  // null: plain
  std::vector<IoThread> threads;            // fixed after construction
  int port = 0;

  // Acceptor state: thread 0 only, once it runs.
  std::optional<tcp::acceptor> acceptor;
  std::optional<asio::steady_timer> accept_pause;
  bool accepting = false;  // an accept or a pause is under way
  size_t next_thread = 0;

  std::atomic<int> num_connections{0};
  // When a connection has ended: see Shutdown.
  std::mutex closed_mu;
  std::condition_variable closed;
  std::atomic<bool> joined{false};
};

absl::Status HttpServer::Impl::Listen() {
  const HttpServerOptions& options = context.options;
  error_code error;
  tcp::resolver resolver(threads[0].io);
  const auto found =
      resolver.resolve(options.host, std::to_string(options.port),
                       tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty()) return BindError(options, "resolve", error);
  const tcp::endpoint endpoint = *found.begin();
  acceptor.emplace(threads[0].io);
  acceptor->open(endpoint.protocol(), error);
  if (error) return BindError(options, "open a socket for", error);
  acceptor->set_option(asio::socket_base::reuse_address(true), error);
  acceptor->bind(endpoint, error);
  if (error) return BindError(options, "bind", error);
  acceptor->listen(kBacklog, error);
  if (error) return BindError(options, "listen on", error);
  port = acceptor->local_endpoint(error).port();
  return absl::OkStatus();
}

void HttpServer::Impl::Run() {
  accept_pause.emplace(threads[0].io);
  asio::post(threads[0].io, [this] { Accept(); });
  for (IoThread& thread : threads) {
    thread.thread = std::thread([&thread] { thread.io.run(); });
  }
}

// Thread 0. At the limit nothing is accepted until a connection has closed: the kernel's backlog
// holds the rest.
void HttpServer::Impl::Accept() {
  if (accepting || context.closing.load() || AtLimit()) return;
  accepting = true;
  IoThread* const target = &threads[next_thread++ % threads.size()];
  acceptor->async_accept(target->io, [this, target](error_code error, tcp::socket socket) {
    accepting = false;
    OnAccept(target, error, std::move(socket));
  });
}

void HttpServer::Impl::OnAccept(IoThread* target, error_code error, tcp::socket socket) {
  if (context.closing.load()) return;
  if (IsResourceShortage(error)) {
    Log(LogLevel::kWarning, "accepting pauses", {{"error", error.message()}});
    accepting = true;
    accept_pause->expires_after(kAcceptPause);
    accept_pause->async_wait([this](error_code) {
      accepting = false;
      Accept();
    });
    return;
  }
  if (!error) {
    num_connections.fetch_add(1);
    context.telemetry->metrics().AddHttpConnections(1);
    asio::post(target->io, [this, target, socket = std::move(socket)]() mutable {
      Adopt(target, std::move(socket));
    });
  }
  Accept();
}

void HttpServer::Impl::Adopt(IoThread* target, tcp::socket socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  socket.set_option(asio::socket_base::send_buffer_size(context.options.send_buffer_bytes),
                    ignored);
  auto connection = std::make_shared<Connection>(
      &context,
      tls ? http::MakeTlsTransport(std::move(socket), *tls)
          : http::MakePlainTransport(std::move(socket)),
      [this, target](Connection* closed) { OnClosed(target, closed); });
  target->connections.insert(connection.get());
  connection->Start();
  if (context.closing.load()) connection->Drain();
}

void HttpServer::Impl::OnClosed(IoThread* thread, Connection* connection) {
  thread->connections.erase(connection);
  context.telemetry->metrics().AddHttpConnections(-1);
  {
    std::lock_guard lock(closed_mu);
    num_connections.fetch_sub(1);
    closed.notify_all();
  }
  asio::post(threads[0].io,
             [this] { Accept(); });  // after the count: it may have been at the limit
}

void HttpServer::Impl::ForEachConnection(void (Connection::*action)()) {
  for (IoThread& thread : threads) {
    asio::post(thread.io, [&thread, action] {
      for (Connection* connection : thread.connections) (connection->*action)();
    });
  }
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                              Node* node, const KeyStore* keys,
                                                              Telemetry* telemetry) {
  if (options.io_threads < 1) return absl::InvalidArgumentError("io_threads must be at least 1");
  if (options.port < 0 || options.port > 65535) {
    return absl::InvalidArgumentError(StrCat("port ", options.port, " is not between 0 and 65535"));
  }
  if (options.tls_cert_pem.empty() != options.tls_key_pem.empty()) {
    return absl::InvalidArgumentError("TLS needs both a certificate and a private key");
  }
  auto impl = std::make_unique<Impl>(options.io_threads);
  impl->context.options = options;
  impl->context.node = node;
  impl->context.keys = keys;
  impl->context.telemetry = telemetry;
  impl->context.system_fingerprint = openai::SystemFingerprint(node->info, kVersion);
  if (!options.tls_cert_pem.empty()) {
    TRIREME_ASSIGN_OR_RETURN(impl->tls,
                             http::MakeTlsContext(options.tls_cert_pem, options.tls_key_pem));
  }
  TRIREME_RETURN_IF_ERROR(impl->Listen());
  impl->Run();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { Shutdown(absl::InfinitePast()); }

int HttpServer::port() const { return impl_->port; }
int HttpServer::num_connections() const { return impl_->num_connections.load(); }
void HttpServer::SetServing(bool serving) { impl_->context.serving.store(serving); }

void HttpServer::StopAccepting() {
  if (impl_->context.closing.exchange(true)) return;
  std::promise<void> closed;  // once it is closed, no connection is added any more
  asio::post(impl_->threads[0].io, [impl = impl_.get(), &closed] {
    error_code ignored;
    impl->acceptor->close(ignored);
    closed.set_value();
  });
  closed.get_future().wait();
  impl_->ForEachConnection(&Connection::Drain);
}

void HttpServer::AbortAll() { impl_->ForEachConnection(&Connection::Abort); }

void HttpServer::Shutdown(absl::Time deadline) {
  if (impl_->joined.exchange(true)) return;
  SetServing(false);
  StopAccepting();
  const auto all_closed = [impl = impl_.get()] { return impl->num_connections.load() == 0; };
  const absl::Duration patience =
      std::min(deadline - impl_->context.node->clock->Now(), kLongestDrain);
  {
    std::unique_lock lock(impl_->closed_mu);
    if (!impl_->closed.wait_for(lock, absl::ToChronoNanoseconds(patience), all_closed)) AbortAll();
    impl_->closed.wait(lock, all_closed);
  }
  for (IoThread& thread : impl_->threads) {
    thread.work.reset();  // run() returns once the last handler has
    thread.thread.join();
  }
}

}  // namespace trireme
