#include "server/net/acceptor.h"

#include <boost/asio/error.hpp>
#include <utility>

#include "runtime/base/host_port.h"
#include "runtime/base/log.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int kBacklog = 1024;
// After an accept failed for want of descriptors or memory.
constexpr auto kPause = std::chrono::milliseconds(100);

bool IsShortage(const error_code& error) {
  return error == asio::error::no_descriptors || error == asio::error::no_memory ||
         error == asio::error::no_buffer_space ||
         error == error_code(ENFILE, boost::system::system_category());
}

absl::Status BindError(const char* what, const std::string& host, int port,
                       const error_code& error) {
  const std::string message =
      StrCat("cannot ", what, " ", HostPort(host, port), ": ", error.message());
  if (error == asio::error::address_in_use) return absl::UnavailableError(message);
  if (error == asio::error::access_denied) return absl::PermissionDeniedError(message);
  return absl::InvalidArgumentError(message);
}

}  // namespace

absl::StatusOr<BoundPort> BoundPort::Bind(const std::string& host, int port) {
  if (port < 0 || port > 65535) {
    return absl::InvalidArgumentError(StrCat("port ", port, " is not between 0 and 65535"));
  }
  auto bound = std::make_unique<Socket>();
  error_code error;
  tcp::resolver resolver(bound->io);
  const auto found = resolver.resolve(
      host, std::to_string(port), tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty()) return BindError("resolve", host, port, error);
  const tcp::endpoint endpoint = *found.begin();
  bound->socket.open(endpoint.protocol(), error);
  if (error) return BindError("open a socket for", host, port, error);
  bound->socket.set_option(asio::socket_base::reuse_address(true), error);
  bound->socket.bind(endpoint, error);
  if (error) return BindError("bind", host, port, error);
  bound->local = bound->socket.local_endpoint(error);
  if (error) return BindError("bind", host, port, error);
  return BoundPort(std::move(bound));
}

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Listen(Io* io, BoundPort bound) {
  const tcp::endpoint local = bound.socket_->local;
  tcp::acceptor listener(*io);
  error_code error;
  const auto fd = bound.socket_->socket.release(error);
  if (!error) listener.assign(local.protocol(), fd, error);
  if (!error) listener.listen(kBacklog, error);
  if (error) return BindError("listen on", local.address().to_string(), local.port(), error);
  return std::unique_ptr<Acceptor>(new Acceptor(io, std::move(listener), local.port()));
}

void Acceptor::Start(std::function<Io*()> next, std::function<void(Socket)> accepted) {
  next_ = std::move(next);
  accepted_ = std::move(accepted);
  Accept();
}

// While nobody takes a connection, the kernel's backlog holds them.
void Acceptor::Accept() {
  if (busy_ || !listener_.is_open()) return;
  Io* const io = next_();
  if (io == nullptr) return;
  busy_ = true;
  listener_.async_accept(*io, [this](error_code error, Socket socket) {
    busy_ = false;
    OnAccept(error, std::move(socket));
  });
}

void Acceptor::OnAccept(const error_code& error, Socket socket) {
  if (!listener_.is_open()) return;
  if (IsShortage(error)) {
    if (!std::exchange(pausing_, true)) {
      Log(LogLevel::kWarning, "accepting pauses", {{"error", error.message()}, {"port", port_}});
    }
    busy_ = true;
    pause_.expires_after(kPause);
    pause_.async_wait([this](error_code) {
      busy_ = false;
      Accept();
    });
    return;
  }
  if (!error) {
    pausing_ = false;
    accepted_(std::move(socket));
  }
  Accept();
}

void Acceptor::Close() {
  error_code ignored;
  listener_.close(ignored);
  pause_.cancel();
}

}  // namespace trireme
