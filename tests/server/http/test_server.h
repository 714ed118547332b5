// The whole HTTP door over the real engine, tokenizer and chat template, with a scripted model:
// vocabulary is the 256 bytes and three special tokens, so that text is its bytes and a test knows
// every answer.
#pragma once

#include <memory>
#include <string>

#include "server/http/http_server.h"
#include "tests/fakes/http_client.h"
#include "tests/fakes/scripted_executor.h"

namespace trireme::http {

struct TestServerOptions {
  HttpServerOptions http = {};
  EngineOptions engine;
  std::string key_file;
  fakes::ScriptedExecutor::NextToken next;  // default: "Hello", then the end of the turn
  int worker_threads = 2;
  bool loaded = true;  // false: the test calls SetNode itself
};

class TestServer {
 public:
  explicit TestServer(TestServerOptions options = {});
  ~TestServer();

  int port() const { return server->port(); }
  fakes::HttpClient Connect() const { return fakes::HttpClient(port()); }
  // Until the server has no connection left, then until the engine has nothing left; checks its
  // invariants.
  void WaitUntilQuiet();
  void WaitForConnections(int count);
  uint64_t num_submitted() const;  // accepted or refused by the engine
  void WaitForSubmitted(uint64_t count);

  Telemetry telemetry{"demo"};
  Metrics& metrics = telemetry.metrics();
  Node node;
  fakes::ScriptedExecutor* executor;  // owned by the engine
  std::unique_ptr<KeyStore> keys;
  std::unique_ptr<HttpServer> server;
};

// The ids of "text", one per byte, and of the end of a turn.
std::vector<TokenId> Bytes(std::string_view text, bool end = true);
// Letters without end.
fakes::ScriptedExecutor::NextToken Endless();

// Bodies of the two generating routes.
std::string ChatBody(std::string_view more_members = "");
std::string CompletionBody(std::string_view prompt_json, std::string_view more_members = "");

}  // namespace trireme::http
