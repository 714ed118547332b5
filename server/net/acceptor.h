// A listening TCP socket that outlives want of descriptors and memory: accepting pauses, then goes
// on. Both doors accept through it; gRPC's own listener (1.51) gives up for good at the first
// EMFILE (CVE-2023-4785).
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace trireme {

// An address that is ours before anything answers at it: until an Acceptor listens, connections are
// refused. So that a port that is taken shows before a model is loaded.
class BoundPort {
 public:
  // `host`: a numeric address or a name, of which the first address counts. Port 0: any free one.
  // INVALID_ARGUMENT (address), UNAVAILABLE (address in use), PERMISSION_DENIED (port).
  static absl::StatusOr<BoundPort> Bind(const std::string& host, int port);

  int port() const { return socket_->local.port(); }

 private:
  friend class Acceptor;
  struct Socket {
    boost::asio::io_context io;
    boost::asio::ip::tcp::acceptor socket{io};
    boost::asio::ip::tcp::endpoint local;
  };
  explicit BoundPort(std::unique_ptr<Socket> socket) : socket_(std::move(socket)) {}

  std::unique_ptr<Socket> socket_;
};

class Acceptor {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  using Io = boost::asio::io_context;

  // Listens on `io`, which outlives the acceptor. UNAVAILABLE: another process that had bound the
  // address too was faster.
  static absl::StatusOr<std::unique_ptr<Acceptor>> Listen(Io* io, BoundPort bound);

  int port() const { return port_; }

  // ---- On io's thread only.

  // `next`: on whose io the next connection will live; null: nobody takes one now, until Accept()
  // is called again. `accepted` gets the connection.
  void Start(std::function<Io*()> next, std::function<void(Socket)> accepted);
  void Accept();
  void Close();

 private:
  Acceptor(Io* io, boost::asio::ip::tcp::acceptor listener, int port)
      : listener_(std::move(listener)), pause_(*io), port_(port) {}
  void OnAccept(const boost::system::error_code& error, Socket socket);

  boost::asio::ip::tcp::acceptor listener_;
  boost::asio::steady_timer pause_;
  const int port_;
  std::function<Io*()> next_;
  std::function<void(Socket)> accepted_;
  bool busy_ = false;     // an accept or a pause is under way
  bool pausing_ = false;  // since the last connection; said once in the log
};

}  // namespace trireme
