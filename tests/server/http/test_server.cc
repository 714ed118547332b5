#include "tests/server/http/test_server.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/time/clock.h"
#include "runtime/base/check.h"
#include "runtime/base/strings.h"
#include "tests/fakes/tiny_tokenizer.h"

namespace trireme::http {
namespace {

constexpr TokenId kEnd = 257;  // <|im_end|>
constexpr char kTemplate[] =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ "
    "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\\n' "
    "}}{% endif %}";

std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::unique_ptr<const Tokenizer> MakeTokenizer() {
  const std::string directory = StrCat(testing::TempDir(), "trireme_http_", getpid());
  std::filesystem::create_directories(directory);
  fakes::WriteTinyTokenizer(directory);
  auto spec = ParseTokenizerJson(ReadFile(directory + "/tokenizer.json"),
                                 ReadFile(directory + "/tokenizer_config.json"));
  std::filesystem::remove_all(directory);
  TRIREME_CHECK(spec.ok());
  auto tokenizer = Tokenizer::Create(*std::move(spec));
  TRIREME_CHECK(tokenizer.ok());
  return *std::move(tokenizer);
}

}  // namespace

std::vector<TokenId> Bytes(std::string_view text, bool end) {
  std::vector<TokenId> ids;
  for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
  if (end) ids.push_back(kEnd);
  return ids;
}

fakes::ScriptedExecutor::NextToken Endless() { return fakes::ScriptedExecutor::HashOf('a', 26); }

std::string ChatBody(std::string_view more_members) {
  return StrCat(R"({"model":"demo","messages":[{"role":"user","content":"hi"}])",
                more_members.empty() ? "" : ",", more_members, "}");
}

std::string CompletionBody(std::string_view prompt_json, std::string_view more_members) {
  return StrCat(R"({"model":"demo","prompt":)", prompt_json, more_members.empty() ? "" : ",",
                more_members, "}");
}

TestServer::TestServer(TestServerOptions options) {
  node.info = {.id = "demo",
               .aliases = {"org/demo-alias"},
               .created = absl::FromUnixSeconds(1700000000),
               .architecture = "llama",
               .max_context_tokens = 2048,
               .vocab_size = 259};
  node.tokenizer = MakeTokenizer();
  auto chat_template = ChatTemplate::Compile(kTemplate);
  TRIREME_CHECK(chat_template.ok());
  node.chat_template = *std::move(chat_template);
  node.clock = &Clock::Monotonic();
  node.workers = std::make_unique<WorkerPool>(options.worker_threads, 64);

  EngineOptions& engine = options.engine;
  if (engine.scheduler.num_blocks == 0) engine.scheduler.num_blocks = 1024;
  engine.scheduler.max_context_tokens = node.info.max_context_tokens;
  engine.limits = {.vocab_size = node.info.vocab_size,
                   .max_context_tokens = node.info.max_context_tokens,
                   .eos_ids = {kEnd}};
  if (!options.next) options.next = fakes::ScriptedExecutor::Script(Bytes("Hello"));
  auto scripted = std::make_unique<fakes::ScriptedExecutor>(node.info.vocab_size, options.next);
  executor = scripted.get();
  node.engine = std::make_unique<Engine>(engine, std::move(scripted), node.clock, &metrics);
  metrics.Attach(node.engine.get());

  if (options.key_file.empty()) {
    keys = KeyStore::Open();
  } else {
    auto opened = KeyStore::Open(options.key_file, absl::InfiniteDuration());
    TRIREME_CHECK(opened.ok());
    keys = *std::move(opened);
  }
  auto started = HttpServer::Start(options.http, BoundPort::Bind("127.0.0.1", 0).value(),
                                   node.clock, keys.get(), &telemetry);
  EXPECT_TRUE(started.ok()) << started.status();
  TRIREME_CHECK(started.ok());
  server = *std::move(started);
  if (options.loaded) server->SetNode(&node);
}

TestServer::~TestServer() {
  executor->OpenGate();
  server.reset();
  metrics.Attach(nullptr);
}

void TestServer::WaitForConnections(int count) {
  while (server->num_connections() != count) absl::SleepFor(absl::Milliseconds(1));
}

void TestServer::WaitUntilQuiet() {
  WaitForConnections(0);
  node.engine->WaitIdleAndCheck();
  EXPECT_EQ(executor->num_open(), 0);
  EXPECT_EQ(node.engine->stats().scheduler.blocks_held, 0);
}

uint64_t TestServer::num_submitted() const {
  const EngineStats stats = node.engine->stats();
  return stats.submitted + stats.refused;
}

void TestServer::WaitForSubmitted(uint64_t count) {
  while (num_submitted() < count) absl::SleepFor(absl::Milliseconds(1));
}

}  // namespace trireme::http
