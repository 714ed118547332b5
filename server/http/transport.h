// One accepted socket, plain or TLS, behind the few operations that a connection needs, so that
// nothing above is compiled twice. Internal to server/http. Used by the connection's io thread
// only.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"

namespace boost::asio::ssl {
class context;
}

namespace trireme::http {

class Transport {
 public:
  using Done = absl::AnyInvocable<void(boost::system::error_code, size_t)>;

  virtual ~Transport() = default;
  // At most one read and one write (handshake and shutdown count as writes) are under way at a
  // time. Buffers belong to the caller and live until `done`, which is never called from inside
  // these calls.
  virtual void Handshake(Done done) = 0;
  virtual void Read(boost::asio::mutable_buffer buffer, Done done) = 0;  // some bytes
  virtual void Write(boost::asio::const_buffer buffer, Done done) = 0;   // all bytes
  // Writes what can be written without waiting, and says how much that was; 0 also on errors, which
  // Write then tells. Not while a write is under way.
  virtual size_t TryWrite(boost::asio::const_buffer buffer) = 0;
  virtual void ShutdownSend(Done done) = 0;  // the peer sees an orderly end; reading goes on
  virtual boost::asio::ip::tcp::socket& socket() = 0;
  // Pending operations complete with operation_aborted.
  void Close();
};

std::unique_ptr<Transport> MakePlainTransport(boost::asio::ip::tcp::socket socket);
std::unique_ptr<Transport> MakeTlsTransport(boost::asio::ip::tcp::socket socket,
                                            boost::asio::ssl::context& context);

// TLS 1.2 and later, ALPN http/1.1. INVALID_ARGUMENT when certificate and key do not read or do not
// match.
absl::StatusOr<std::shared_ptr<boost::asio::ssl::context>> MakeTlsContext(
    const std::string& cert_pem, const std::string& key_pem);

}  // namespace trireme::http
