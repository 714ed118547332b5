// The gRPC door over the real engine, with a scripted model: what clients that vanish or do not
// read get, and what is counted. The rest of the contract: tests/conformance/test_grpc.py.
#include "server/grpc/grpc_server.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <future>

#include "runtime/base/strings.h"
#include "tests/server/node/node_fixture.h"
#include "trireme/v1/inference.grpc.pb.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;

class GrpcServerTest : public NodeTest {
 protected:
  void StartServer(absl::Duration write_timeout = absl::Seconds(30)) {
    node_.info.max_context_tokens = options_.limits.max_context_tokens;
    node_.info.vocab_size = kVocab;
    node_.workers = std::make_unique<WorkerPool>(1, 64);
    keys_ = KeyStore::Open();
    GrpcServerOptions options{.write_timeout = write_timeout};
    auto server = GrpcServer::Start(options, BoundPort::Bind("127.0.0.1", 0).value(), node_.clock,
                                    keys_.get(), &telemetry_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    server_->SetNode(&node_);
    grpc::ChannelArguments arguments;
    // As little as possible is taken for a reader that does not ask.
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1024);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    stub_ = v1::Inference::NewStub(grpc::CreateCustomChannel(
        StrCat("127.0.0.1:", server_->port()), grpc::InsecureChannelCredentials(), arguments));
  }
  ~GrpcServerTest() override {
    if (executor_ != nullptr) executor_->OpenGate();
    if (server_ != nullptr) server_->Shutdown(absl::Now());
    node_.workers.reset();
  }

  // Output that no flow-control window holds: 300 tokens with 20 alternatives each, ten times.
  static v1::GenerateRequest Big() {
    v1::GenerateRequest request;
    request.set_prompt("x");
    request.set_max_tokens(300);
    request.set_ignore_eos(true);
    request.set_n(10);
    request.mutable_sampling()->set_logprobs(20);
    return request;
  }
  void WaitForMetric(const std::string& line) {
    while (metrics_.Render().find(line) == std::string::npos) {
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
  static std::string Trailer(const grpc::ClientContext& context, const std::string& name) {
    const auto& trailers = context.GetServerTrailingMetadata();
    const auto found = trailers.find(name);
    return found == trailers.end() ? "" : std::string(found->second.data(), found->second.size());
  }

  Telemetry telemetry_{"tiny"};
  Metrics& metrics_ = telemetry_.metrics();
  std::unique_ptr<KeyStore> keys_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

TEST_F(GrpcServerTest, AClientThatReadsTooLateIsToldWhy) {
  options_.max_unread_tokens = 16;  // then generation waits for the reader
  StartEngine(ScriptedExecutor::HashOf('a', 26));
  StartServer(absl::Seconds(2));
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Big());
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  while (node_.engine->stats().cancelled == 0) absl::SleepFor(absl::Milliseconds(1));
  while (reader->Read(&response)) {
  }
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  EXPECT_EQ(Trailer(context, "trireme-code"), "slow_reader");
}

TEST_F(GrpcServerTest, AClientThatNeverReadsDoesNotHoldTheCall) {
  options_.max_unread_tokens = 16;  // then generation waits for the reader
  StartEngine(ScriptedExecutor::HashOf('a', 26));
  StartServer(absl::Milliseconds(50));
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Big());
  // Counted when gRPC has let the call go.
  WaitForMetric(R"(trireme_grpc_requests_total{code="RESOURCE_EXHAUSTED",method="Generate"} 1)");
  context.TryCancel();
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(GrpcServerTest, AClientThatReadsGetsEverythingWhateverTheWriteTimeout) {
  StartEngine(ScriptedExecutor::HashOf('a', 26));
  StartServer(absl::Seconds(5));
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Big());
  v1::GenerateResponse response;
  int tokens = 0;
  while (reader->Read(&response)) tokens += response.token_ids_size();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(tokens, 10 * 300);
}

// The engine hands the news of all of them over at once.
TEST_F(GrpcServerTest, StreamsThatShareStepsEachGetTheirOwnTokensInOrder) {
  StartEngine([](const Sequence& sequence) {
    return static_cast<TokenId>('a' + (sequence.tokens[0] + sequence.num_generated()) % 26);
  });
  StartServer();
  struct Stream {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader;
  };
  constexpr int kStreams = 26, kTokens = 100;
  std::vector<Stream> streams(kStreams);
  executor_->CloseGate();
  for (int i = 0; i < kStreams; ++i) {
    v1::GenerateRequest request;
    request.set_prompt(std::string(1, static_cast<char>('A' + i)));
    request.set_max_tokens(kTokens);
    request.set_ignore_eos(true);
    streams[static_cast<size_t>(i)].reader =
        stub_->Generate(&streams[static_cast<size_t>(i)].context, request);
  }
  executor_->OpenGate();
  for (int i = 0; i < kStreams; ++i) {
    std::string text, expected;
    for (int k = 0; k < kTokens; ++k) expected += static_cast<char>('a' + ('A' + i + k) % 26);
    v1::GenerateResponse response;
    int tokens = 0, counted = 0;
    while (streams[static_cast<size_t>(i)].reader->Read(&response)) {
      text += response.text();
      tokens += response.token_ids_size();
      counted = response.usage().completion_tokens();
    }
    EXPECT_TRUE(streams[static_cast<size_t>(i)].reader->Finish().ok());
    EXPECT_EQ(text, expected);
    EXPECT_EQ(tokens, kTokens);
    EXPECT_EQ(counted, kTokens);
  }
}

// Counts what it renders.
class CountingTemplate final : public ChatTemplate {
 public:
  explicit CountingTemplate(std::atomic<int>* count) : count_(count) {}
  absl::StatusOr<RenderedPrompt> Render(const ChatTemplateInputs&) const override {
    ++*count_;
    return RenderedPrompt{.text = "x"};
  }
  const std::string& source() const override { return source_; }

 private:
  std::atomic<int>* const count_;
  const std::string source_;
};

TEST_F(GrpcServerTest, ACallThatEndedInTheQueueIsNotPrepared) {
  std::atomic<int> rendered = 0;
  node_.chat_template = std::make_unique<CountingTemplate>(&rendered);
  StartEngineSaying("Hello");
  StartServer();
  std::promise<void> release;
  ASSERT_TRUE(node_.workers->TrySubmit([&] { release.get_future().wait(); }));
  v1::GenerateRequest request;
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("hi");
  request.set_request_id("waiting");
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, request);
  v1::AbortRequest abort;
  abort.set_request_id("waiting");
  for (v1::AbortResponse aborted; !aborted.found();) {  // not before it has arrived
    grpc::ClientContext abort_context;
    ASSERT_TRUE(stub_->Abort(&abort_context, abort, &aborted).ok());
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(node_.requests->List("").total, 0u);
  EXPECT_EQ(context.GetServerTrailingMetadata().find("trireme-code")->second, "cancelled");
  WaitForMetric(R"(trireme_grpc_requests_total{code="CANCELLED",method="Generate"} 1)");
  release.set_value();
  node_.workers.reset();  // runs what is queued
  EXPECT_EQ(rendered, 0);
  EXPECT_EQ(node_.engine->stats().submitted, 0u);
}

TEST_F(GrpcServerTest, ABusyWorkerPoolIsRefusedAsAFullQueueIs) {
  StartEngineSaying("Hello");
  StartServer();
  std::promise<void> busy, release;
  const std::shared_future<void> released = release.get_future().share();
  ASSERT_TRUE(node_.workers->TrySubmit([&busy, released] {
    busy.set_value();
    released.wait();
  }));
  busy.get_future().wait();  // the only worker has taken it: what follows stays in the queue
  while (node_.workers->TrySubmit([] {})) {
  }
  grpc::ClientContext generate, tokenize;
  v1::GenerateRequest request;
  request.set_prompt("x");
  auto reader = stub_->Generate(&generate, request);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Trailer(generate, "trireme-code"), "overloaded");
  v1::TokenizeRequest text;
  text.set_text("x");
  v1::TokenizeResponse ids;
  EXPECT_EQ(stub_->Tokenize(&tokenize, text, &ids).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Trailer(tokenize, "trireme-code"), "overloaded");
  release.set_value();
}

TEST_F(GrpcServerTest, CallsAreCountedByMethodAndCode) {
  StartEngineSaying("Hello");
  StartServer();
  v1::DetokenizeResponse text;
  for (const TokenId id : {int{'a'}, kVocab}) {
    grpc::ClientContext context;
    v1::DetokenizeRequest request;
    request.add_token_ids(id);
    EXPECT_EQ(stub_->Detokenize(&context, request, &text).ok(), id == 'a');
  }
  grpc::ClientContext context;
  v1::GenerateRequest request;
  request.set_prompt("x");
  auto reader = stub_->Generate(&context, request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
  WaitForMetric(R"(trireme_grpc_requests_total{code="OK",method="Generate"} 1)");
  WaitForMetric(R"(trireme_grpc_requests_total{code="OK",method="Detokenize"} 1)");
  WaitForMetric(R"(trireme_grpc_requests_total{code="INVALID_ARGUMENT",method="Detokenize"} 1)");
  EXPECT_THAT(metrics_.Render(), HasSubstr("trireme_grpc_request_seconds_count"));
}

}  // namespace
}  // namespace trireme
