// What every service of one gRPC server shares. Internal to server/grpc; constant once serving.
#pragma once

#include <atomic>

#include "absl/time/time.h"
#include "server/admission/keys.h"
#include "server/node/node.h"
#include "server/observe/telemetry.h"

namespace trireme::rpc {

struct ServiceContext {
  Node* node = nullptr;
  const KeyStore* keys = nullptr;
  Telemetry* telemetry = nullptr;
  absl::Duration write_timeout;
  // Of the requests of all calls that have not ended; those that would exceed it are refused.
  int64_t max_request_bytes = 256 << 20;
  mutable std::atomic<int64_t> request_bytes = 0;
};

}  // namespace trireme::rpc
