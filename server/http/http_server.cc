#include "server/http/http_server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/base/version.h"
#include "server/dialects/openai/info.h"
#include "server/http/connection.h"
#include "server/net/acceptor.h"
#include "server/node/news_queue.h"

namespace trireme {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using http::Connection;

constexpr absl::Duration kLongestDrain = absl::Hours(24 * 365);  // what chrono can hold

// One thread and the connections that live on it.
struct IoThread {
  asio::io_context io{/*concurrency_hint=*/1};
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(io);
  NewsQueue<Connection> news{
      [this](auto* queue) { asio::post(io, [queue] { queue->Deliver(); }); }};
  std::unordered_set<Connection*> connections;  // of this thread; each keeps itself alive
  std::thread thread;
};

}  // namespace

struct HttpServer::Impl {
  explicit Impl(int num_threads) : threads(static_cast<size_t>(num_threads)) {}

  void Run();
  Acceptor::Io* NextIo();
  void OnAccept(tcp::socket socket);
  void Adopt(IoThread* target, tcp::socket socket);
  void OnClosed(IoThread* thread, Connection* connection);
  void ForEachConnection(void (Connection::*action)());
  bool AtLimit() const { return num_connections.load() >= context.options.max_connections; }

  http::ServerContext context;
  std::shared_ptr<asio::ssl::context> tls;  // null: plain
  std::vector<IoThread> threads;            // fixed after construction

  // Thread 0 only, once it runs.
  std::unique_ptr<Acceptor> acceptor;
  size_t num_accepted = 0;  // the next connection's thread, modulo their number

  std::atomic<int> num_connections{0};
  // When a connection has ended: see Shutdown.
  std::mutex closed_mu;
  std::condition_variable closed;
  std::atomic<bool> joined{false};
};

void HttpServer::Impl::Run() {
  asio::post(threads[0].io, [this] {
    acceptor->Start([this] { return NextIo(); },
                    [this](tcp::socket socket) { OnAccept(std::move(socket)); });
  });
  for (IoThread& thread : threads) {
    thread.thread = std::thread([&thread] { thread.io.run(); });
  }
}

// At the limit nothing is accepted until a connection has closed.
Acceptor::Io* HttpServer::Impl::NextIo() {
  if (context.closing.load() || AtLimit()) return nullptr;
  return &threads[num_accepted % threads.size()].io;
}

void HttpServer::Impl::OnAccept(tcp::socket socket) {
  IoThread* const target = &threads[num_accepted++ % threads.size()];
  num_connections.fetch_add(1);
  context.telemetry->metrics().AddHttpConnections(1);
  asio::post(target->io, [this, target, socket = std::move(socket)]() mutable {
    Adopt(target, std::move(socket));
  });
}

void HttpServer::Impl::Adopt(IoThread* target, tcp::socket socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  socket.set_option(asio::socket_base::send_buffer_size(context.options.send_buffer_bytes),
                    ignored);
  auto connection = std::make_shared<Connection>(
      &context, &target->news,
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
             [this] { acceptor->Accept(); });  // after the count: it may have been at the limit
}

void HttpServer::Impl::ForEachConnection(void (Connection::*action)()) {
  for (IoThread& thread : threads) {
    asio::post(thread.io, [&thread, action] {
      for (Connection* connection : thread.connections) (connection->*action)();
    });
  }
}

absl::Status HttpServer::CheckTls(const std::string& cert_pem, const std::string& key_pem) {
  return cert_pem.empty() && key_pem.empty() ? absl::OkStatus()
                                             : http::MakeTlsContext(cert_pem, key_pem).status();
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                              BoundPort port, const Clock* clock,
                                                              const KeyStore* keys,
                                                              Telemetry* telemetry) {
  if (options.io_threads < 1) return absl::InvalidArgumentError("io_threads must be at least 1");
  auto impl = std::make_unique<Impl>(options.io_threads);
  impl->context.options = options;
  impl->context.clock = clock;
  impl->context.keys = keys;
  impl->context.telemetry = telemetry;
  if (!options.tls_cert_pem.empty() || !options.tls_key_pem.empty()) {
    TRIREME_ASSIGN_OR_RETURN(impl->tls,
                             http::MakeTlsContext(options.tls_cert_pem, options.tls_key_pem));
  }
  TRIREME_ASSIGN_OR_RETURN(impl->acceptor, Acceptor::Listen(&impl->threads[0].io, std::move(port)));
  impl->Run();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { Shutdown(absl::InfinitePast()); }

int HttpServer::port() const { return impl_->acceptor->port(); }
int HttpServer::num_connections() const { return impl_->num_connections.load(); }
void HttpServer::SetNode(Node* node) {
  impl_->context.system_fingerprint = openai::SystemFingerprint(node->info, kVersion);
  impl_->context.node.store(node);
}

void HttpServer::SetServing(bool serving) { impl_->context.serving.store(serving); }

void HttpServer::StopAccepting() {
  if (impl_->context.closing.exchange(true)) return;
  std::promise<void> closed;  // once it is closed, no connection is added any more
  asio::post(impl_->threads[0].io, [impl = impl_.get(), &closed] {
    impl->acceptor->Close();
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
  const absl::Duration patience = std::min(deadline - impl_->context.clock->Now(), kLongestDrain);
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
