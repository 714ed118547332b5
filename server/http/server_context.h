// What every connection of one server shares. Internal to server/http.
#pragma once

#include <atomic>
#include <string>

#include "server/http/http_server.h"

namespace trireme::http {

struct ServerContext {
  // Constant after construction.
  HttpServerOptions options;
  const Clock* clock = nullptr;
  const KeyStore* keys = nullptr;
  Telemetry* telemetry = nullptr;

  std::atomic<Node*> node{nullptr};  // null while the model loads, then constant
  std::string system_fingerprint;    // constant once there is a node
  std::atomic<bool> serving{true};
  std::atomic<bool> closing{false};  // no new connections; answers say "Connection: close"
  std::atomic<int64_t> buffered_body_bytes{0};
};

}  // namespace trireme::http
