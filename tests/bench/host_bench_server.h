// A whole server but for the model: engine, both doors, and an executor that has every token ready.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "server/admission/keys.h"
#include "server/grpc/grpc_server.h"
#include "server/http/http_server.h"
#include "server/node/node.h"
#include "server/observe/telemetry.h"

namespace trireme::bench {

struct TextOf {  // what of a model the host path needs
  std::unique_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<const ChatTemplate> chat_template;
};
// Of a model's files; path empty: the small vocabulary of tests/golden, with a template like the
// demo model's. Ends the program when it cannot.
TextOf ReadText(const std::string& model_path);

class BenchServer {
 public:
  explicit BenchServer(TextOf text);

  std::string HttpUrl() const;
  std::string GrpcUrl() const;
  // What a step takes from now on, whatever its rows: a model's pace, without its work.
  void set_step_period(std::chrono::nanoseconds period) { step_period_.store(period.count()); }

 private:
  Telemetry telemetry_{"bench"};
  std::atomic<int64_t> step_period_{0};  // nanoseconds
  Node node_;
  std::unique_ptr<KeyStore> keys_ = KeyStore::Open();
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<GrpcServer> grpc_;
};

}  // namespace trireme::bench
