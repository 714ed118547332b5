// The HTTP/1.1 door: the OpenAI routes over one node, on Boost.Asio and Boost.Beast.
//
// One io thread owns each connection from accept to close; a connection is one coroutine. JSON,
// templates and tokenization run on node->workers, tokens come from the engine thread, and both
// only post to the connection's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/admission/keys.h"
#include "server/net/acceptor.h"
#include "server/node/node.h"
#include "server/observe/telemetry.h"

namespace trireme {

struct HttpServerOptions {
  int io_threads = 1;
  std::string tls_cert_pem, tls_key_pem;  // PEM texts, both or none: TLS 1.2 and later
  bool metrics_need_key = true;           // when keys are set
  bool page = true;                       // the built-in page at /

  int max_connections = 4096;                   // at the limit accepting pauses
  size_t max_header_bytes = 64 << 10;           // 431 beyond
  size_t max_body_bytes = 32 << 20;             // 413 beyond
  int64_t max_buffered_body_bytes = 256 << 20;  // bodies of all connections; 503 beyond
  int send_buffer_bytes =
      64 << 10;  // of the kernel, per connection: then a slow reader holds its stream up

  absl::Duration header_timeout = absl::Seconds(10);  // first byte to last of a request's head; 408
  absl::Duration body_timeout = absl::Seconds(60);    // head to last byte of the body; 408
  absl::Duration idle_timeout = absl::Seconds(75);    // between requests
  absl::Duration write_timeout = absl::Seconds(30);   // without progress of a write: dropped
  absl::Duration heartbeat = absl::Seconds(15);       // silence on a stream before ": ping"
};

// Thread-safe. The destructor aborts what is left.
class HttpServer {
 public:
  // Whether certificate and key, where there are any, can be served with; the error names the flag
  // that is wrong. So that this shows before a model is loaded.
  static absl::Status CheckTls(const std::string& cert_pem, const std::string& key_pem);

  // Listens, and answers what needs no model: the rest, /ready included, is refused with Loading().
  // INVALID_ARGUMENT (certificate), UNAVAILABLE (address in use). `clock`, `keys` and `telemetry`
  // must outlive the server.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options,
                                                           BoundPort port, const Clock* clock,
                                                           const KeyStore* keys,
                                                           Telemetry* telemetry);
  ~HttpServer();

  int port() const;
  int num_connections() const;

  // From now on everything is answered, by `node`, which must outlive the server. Once.
  void SetNode(Node* node);
  void SetServing(bool serving);  // what /ready answers of a node; true at the start
  // Closes the listening socket and idle connections; busy ones finish what they answer and close.
  void StopAccepting();
  // Answers everything in flight with 503, on a begun stream with an error event, and closes.
  void AbortAll();
  // SetServing(false), StopAccepting, waits for what is in flight until `deadline` (by
  // the clock), AbortAll, joins.
  void Shutdown(absl::Time deadline);

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace trireme
