// The floor under our gRPC door: what the library itself takes to carry a token to a stream. A
// callback server with nothing of ours behind it: no engine, no tokenizer, no serialisation. One
// thread writes the same prepared message to every open stream at a pace.
#pragma once

#include <chrono>
#include <memory>
#include <string>

namespace trireme::bench {

class BareGrpcServer {
 public:
  // Listens on loopback. Every Generate call gets `max_tokens` messages, one a `period`.
  explicit BareGrpcServer(std::chrono::nanoseconds period);
  ~BareGrpcServer();  // no call may be open

  std::string Url() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::bench
