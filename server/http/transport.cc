#include "server/http/transport.h"

#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <string_view>
#include <utility>

#include "runtime/base/strings.h"

namespace trireme::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

class PlainTransport final : public Transport {
 public:
  explicit PlainTransport(tcp::socket socket) : socket_(std::move(socket)) {
    error_code ignored;  // then TryWrite would wait, which the client bears who makes it so
    socket_.non_blocking(true, ignored);
  }

  void Handshake(Done done) override {
    asio::post(socket_.get_executor(), [done = std::move(done)]() mutable { done({}, 0); });
  }
  void Read(asio::mutable_buffer buffer, Done done) override {
    socket_.async_read_some(buffer, std::move(done));
  }
  void Write(asio::const_buffer buffer, Done done) override {
    asio::async_write(socket_, buffer, std::move(done));
  }
  size_t TryWrite(asio::const_buffer buffer) override {
    error_code error;
    return socket_.send(asio::const_buffers_1(buffer), 0, error);
  }
  void ShutdownSend(Done done) override {
    error_code error;
    socket_.shutdown(tcp::socket::shutdown_send, error);
    asio::post(socket_.get_executor(),
               [done = std::move(done), error]() mutable { done(error, 0); });
  }
  tcp::socket& socket() override { return socket_; }

 private:
  tcp::socket socket_;
};

class TlsTransport final : public Transport {
 public:
  TlsTransport(tcp::socket socket, asio::ssl::context& context)
      : stream_(std::move(socket), context) {}

  void Handshake(Done done) override {
    stream_.async_handshake(asio::ssl::stream_base::server,
                            [done = std::move(done)](error_code error) mutable { done(error, 0); });
  }
  void Read(asio::mutable_buffer buffer, Done done) override {
    stream_.async_read_some(buffer, std::move(done));
  }
  void Write(asio::const_buffer buffer, Done done) override {
    asio::async_write(stream_, buffer, std::move(done));
  }
  size_t TryWrite(asio::const_buffer) override { return 0; }  // records are Write's business
  // Sends close_notify and FIN. SSL_shutdown is called once only: waiting for the peer's own notify
  // is the business of whoever reads on.
  void ShutdownSend(Done done) override {
    stream_.async_shutdown([this, done = std::move(done)](error_code error) mutable {
      error_code ignored;
      socket().shutdown(tcp::socket::shutdown_send, ignored);
      done(error, 0);
    });
  }
  tcp::socket& socket() override { return stream_.next_layer(); }

 private:
  asio::ssl::stream<tcp::socket> stream_;
};

int SelectHttp11(SSL*, const unsigned char** out, unsigned char* out_length,
                 const unsigned char* in, unsigned int in_length, void*) {
  static constexpr unsigned char kProtocols[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_length, kProtocols, sizeof(kProtocols) - 1, in,
                            in_length) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

void Transport::Close() {
  error_code ignored;
  socket().close(ignored);
}

std::unique_ptr<Transport> MakePlainTransport(tcp::socket socket) {
  return std::make_unique<PlainTransport>(std::move(socket));
}

std::unique_ptr<Transport> MakeTlsTransport(tcp::socket socket, asio::ssl::context& context) {
  return std::make_unique<TlsTransport>(std::move(socket), context);
}

absl::StatusOr<std::shared_ptr<asio::ssl::context>> MakeTlsContext(const std::string& cert_pem,
                                                                   const std::string& key_pem) {
  auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
  error_code error;
  SSL_CTX* native = context->native_handle();
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(native, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(native, SelectHttp11, nullptr);
  // Without this OpenSSL would ask the terminal.
  context->set_password_callback([](size_t, auto) { return std::string(); }, error);
  context->use_certificate_chain(asio::buffer(cert_pem), error);
  if (error) {
    return absl::InvalidArgumentError(
        StrCat("--tls-cert holds no PEM certificate that can be read: ", error.message()));
  }
  // Asks for the certificate's key: one that does not belong to it is refused here, too.
  context->use_private_key(asio::buffer(key_pem), asio::ssl::context::pem, error);
  if (error &&
      ERR_GET_REASON(static_cast<unsigned long>(error.value())) != X509_R_KEY_VALUES_MISMATCH) {
    return absl::InvalidArgumentError(
        StrCat("--tls-key holds no PEM private key without a password: ", error.message()));
  }
  if (error || SSL_CTX_check_private_key(native) != 1) {
    return absl::InvalidArgumentError("--tls-key does not belong to the certificate of --tls-cert");
  }
  return context;
}

}  // namespace trireme::http
