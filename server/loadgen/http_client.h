// Load through /v1/chat/completions or /v1/completions of an OpenAI-compatible server.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <memory>

#include "absl/status/statusor.h"
#include "server/loadgen/client.h"
#include "server/loadgen/target.h"

namespace trireme::loadgen {

// Resolves the host and, where `options` names no model, asks the server for its first: runs `io`,
// which outlives the client. `options->model` is set. That ends within kPreflightTimeout, every
// request within `timeout`.
absl::StatusOr<std::unique_ptr<Client>> MakeHttpClient(boost::asio::io_context* io,
                                                       const Target& target, TargetOptions* options,
                                                       std::chrono::nanoseconds timeout);

}  // namespace trireme::loadgen
