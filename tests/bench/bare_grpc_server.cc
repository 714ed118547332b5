#include "tests/bench/bare_grpc_server.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/base/strings.h"
#include "server/grpc/wire.h"
#include "trireme/v1/inference.grpc.pb.h"

namespace trireme::bench {
namespace {

// As long as a message of ours that carries one token.
grpc::ByteBuffer OneToken() {
  v1::GenerateResponse response;
  response.set_request_id("grpc-0123456789abcdef0123456789abcdef");
  response.set_text(" light");
  response.add_token_ids(12345);
  grpc::ByteBuffer bytes;
  rpc::SerializeMessage(response, &bytes);
  return bytes;
}

class Call final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit Call(int num_messages) : left_(num_messages) {}

  // Writer thread. False once nothing more will be written.
  bool Write(const grpc::ByteBuffer* message) {
    if (writing_.exchange(true)) return true;  // the client is behind
    if (left_-- > 0) {
      StartWrite(message);
      return true;
    }
    Finish(grpc::Status::OK);
    return false;
  }
  void OnWriteDone(bool /*ok*/) override { writing_.store(false); }
  void OnDone() override { delete this; }

 private:
  int left_;
  std::atomic<bool> writing_ = false;
};

using Service = v1::Inference::WithRawCallbackMethod_Generate<
    v1::Inference::WithCallbackMethod_GetModelInfo<v1::Inference::Service>>;

}  // namespace

struct BareGrpcServer::Impl final : Service {
  explicit Impl(std::chrono::nanoseconds p) : period(p) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, std::numeric_limits<int>::max());
    builder.RegisterService(this);
    server = builder.BuildAndStart();
    TRIREME_CHECK(server != nullptr);
    writer = std::thread([this] { WriteAtPace(); });
  }
  ~Impl() override {
    stopping.store(true);
    writer.join();
    server->Shutdown();
  }

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext*,
                                                       const grpc::ByteBuffer* bytes) override {
    v1::GenerateRequest request;
    TRIREME_CHECK(rpc::ParseMessage(*bytes, &request).ok());
    auto* call = new Call(request.max_tokens());
    std::lock_guard lock(mu);
    arrived.push_back(call);
    return call;
  }
  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* call,
                                         const v1::GetModelInfoRequest*,
                                         v1::GetModelInfoResponse* response) override {
    response->set_id("bare");
    grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  void WriteAtPace() {
    std::vector<Call*> calls;
    for (auto next = std::chrono::steady_clock::now(); !stopping.load(); next += period) {
      std::this_thread::sleep_until(next);
      {
        std::lock_guard lock(mu);
        calls.insert(calls.end(), arrived.begin(), arrived.end());
        arrived.clear();
      }
      std::erase_if(calls, [this](Call* call) { return !call->Write(&message); });
    }
  }

  const std::chrono::nanoseconds period;
  const grpc::ByteBuffer message = OneToken();
  int port = 0;
  std::atomic<bool> stopping = false;
  std::mutex mu;
  std::vector<Call*> arrived;  // guarded by mu
  std::unique_ptr<grpc::Server> server;
  std::thread writer;
};

BareGrpcServer::BareGrpcServer(std::chrono::nanoseconds period)
    : impl_(std::make_unique<Impl>(period)) {}
BareGrpcServer::~BareGrpcServer() = default;
std::string BareGrpcServer::Url() const { return StrCat("grpc://127.0.0.1:", impl_->port); }

}  // namespace trireme::bench
