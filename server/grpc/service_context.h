// What every service of one gRPC server shares. Internal to server/grpc; constant but for its
// atomic members.
#pragma once

#include <atomic>

#include "absl/time/time.h"
#include "server/admission/keys.h"
#include "server/node/node.h"
#include "server/observe/telemetry.h"

namespace trireme::rpc {

struct ServiceContext {
  const Clock* clock = nullptr;
  const KeyStore* keys = nullptr;
  Telemetry* telemetry = nullptr;
  absl::Duration write_timeout;
  std::atomic<Node*> loaded = nullptr;  // null while the model loads, then constant
  // Once `loaded` was seen to be there.
  Node& node() const { return *loaded.load(); }
  // Of the requests of all calls that have not ended; those that would exceed it are refused.
  int64_t max_request_bytes = 256 << 20;
  mutable std::atomic<int64_t> request_bytes = 0;
};

}  // namespace trireme::rpc
