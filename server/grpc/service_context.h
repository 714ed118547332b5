// What every service of one gRPC server shares. Internal to server/grpc; constant once serving.
#pragma once

#include "absl/time/time.h"
#include "server/admission/keys.h"
#include "server/node/node.h"
#include "server/observe/metrics.h"

namespace trireme::rpc {

struct ServiceContext {
  Node* node = nullptr;
  const KeyStore* keys = nullptr;
  Metrics* metrics = nullptr;  // null: calls are not counted
  absl::Duration write_timeout;
};

}  // namespace trireme::rpc
