// Load through trireme.v1.Inference/Generate.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <memory>

#include "absl/status/statusor.h"
#include "server/loadgen/client.h"
#include "server/loadgen/target.h"

namespace trireme::loadgen {

// Connects, and sets `options->model` to the served one where it is empty. Streams are read on
// gRPC's threads; `done` runs on the thread that runs `io`, which outlives the client. Every
// request ends within `timeout`.
absl::StatusOr<std::unique_ptr<Client>> MakeGrpcClient(boost::asio::io_context* io,
                                                       const Target& target, TargetOptions* options,
                                                       std::chrono::nanoseconds timeout);

}  // namespace trireme::loadgen
