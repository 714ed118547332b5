#include "server/ranks/control_leader.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/base/version.h"
#include "server/ranks/credentials.h"
#include "server/ranks/follower_stream.h"
#include "server/ranks/keepalive.h"

namespace trireme {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

// For all nodes to come: machines of a group start at different times, and pull the model first.
constexpr seconds kGatherTime{600};
constexpr seconds kWaitTick{1};
constexpr seconds kShutdownTime{5};
constexpr int kMaxMessageBytes = 64 << 10;  // of a follower's

grpc::Status ToGrpc(const absl::Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message())};
}

}  // namespace

class ControlLeader::Impl final : public v1::RankControl::Service {
 public:
  Impl(const RankGroupOptions& options, std::function<void(const absl::Status&)> lost)
      : num_nodes_(options.num_nodes),
        lost_(std::move(lost)),
        nodes_(static_cast<size_t>(num_nodes_ - 1)) {}
  ~Impl() override;

  absl::Status Listen(const RankGroupOptions& options);
  // What followers must be like, from now on.
  void Expect(int num_devices, const std::string& model_digest);
  absl::Status Gather(const std::function<void()>& wait);
  // Sends to all; then waits until each has answered.
  absl::Status SendAll(const v1::LeaderMessage& message);
  absl::StatusOr<std::vector<v1::FollowerMessage>> ReceiveAll(v1::FollowerMessage::KindCase kind,
                                                              const std::function<void()>& wait);
  std::vector<std::shared_ptr<FollowerStream>>& nodes() { return nodes_; }
  void set_serving() { serving_ = true; }

  grpc::Status Follow(grpc::ServerContext* context, FollowerStream::Stream* stream) override;

 private:
  absl::Status Admit(const v1::FollowerMessage::Hello& hello, grpc::ServerContext* context,
                     FollowerStream::Stream* stream, std::shared_ptr<FollowerStream>* node);
  void OnLost(const FollowerStream* node, const absl::Status& error);

  const int num_nodes_;
  const std::function<void(const absl::Status&)> lost_;
  bool serving_ = false;  // nodes were handed out

  std::mutex mu_;
  std::condition_variable changed_;
  // Guarded by mu_ until all nodes are there; constant afterwards.
  std::vector<std::shared_ptr<FollowerStream>> nodes_;  // null: not there yet
  // Guarded by mu_.
  bool gathering_ = true;  // nodes may come and go
  int num_devices_ = 0;    // of a node; 0: nobody is expected yet
  std::string model_digest_;

  std::unique_ptr<grpc::Server> server_;
};

ControlLeader::Impl::~Impl() {
  std::vector<std::shared_ptr<FollowerStream>> nodes;
  {
    std::lock_guard lock(mu_);
    gathering_ = false;
    num_devices_ = -1;
    nodes = nodes_;
  }
  changed_.notify_all();
  for (const auto& node : nodes) {
    if (node) node->Stop(serving_ ? "" : "the leader could not start");
  }
  if (server_) server_->Shutdown(std::chrono::system_clock::now() + kShutdownTime);
}

absl::Status ControlLeader::Impl::Listen(const RankGroupOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(const auto credentials, LeaderCredentials(options));
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options.leader, credentials, &port);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  for (const auto& [name, value] : kKeepalive) builder.AddChannelArgument(name, value);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port == 0) {
    return absl::UnavailableError(
        StrCat("--leader ", options.leader,
               ": cannot listen there; give an address of this machine and a free port"));
  }
  return absl::OkStatus();
}

void ControlLeader::Impl::Expect(int num_devices, const std::string& model_digest) {
  {
    std::lock_guard lock(mu_);
    num_devices_ = num_devices;
    model_digest_ = model_digest;
  }
  changed_.notify_all();
}

absl::Status ControlLeader::Impl::Admit(const v1::FollowerMessage::Hello& hello,
                                        grpc::ServerContext* context,
                                        FollowerStream::Stream* stream,
                                        std::shared_ptr<FollowerStream>* node) {
  std::unique_lock lock(mu_);
  changed_.wait(lock, [&] { return num_devices_ != 0; });  // this node reads its model first
  if (context->IsCancelled()) return absl::CancelledError("it has gone meanwhile");
  if (num_devices_ < 0) return absl::UnavailableError("the leader could not start: see its log");
  if (!gathering_) return absl::FailedPreconditionError("the leader has all its nodes");
  if (hello.version() != kVersion) {
    return absl::FailedPreconditionError(
        StrCat("version ", Printable(hello.version()), "; the leader's is ", kVersion));
  }
  if (hello.num_nodes() != num_nodes_ || hello.node_rank() < 1 || hello.node_rank() >= num_nodes_) {
    return absl::FailedPreconditionError(
        StrCat("it is one of --nnodes ", hello.num_nodes(), "; the leader has ", num_nodes_));
  }
  if (hello.num_devices() != num_devices_) {
    return absl::FailedPreconditionError(StrCat("it has ", hello.num_devices(),
                                                " GPUs for the model; the leader ", num_devices_,
                                                ": --tensor-parallel-size must be the same"));
  }
  if (hello.model_digest() != model_digest_) {
    return absl::FailedPreconditionError(
        "it has another model (its shape, or its tensors' names, types or shapes)");
  }
  auto& place = nodes_[static_cast<size_t>(hello.node_rank() - 1)];
  if (place) return absl::AlreadyExistsError("there is one already: --node-rank must differ");
  place = *node = std::make_shared<FollowerStream>(hello.node_rank(), context, stream);
  changed_.notify_all();
  return absl::OkStatus();
}

grpc::Status ControlLeader::Impl::Follow(grpc::ServerContext* context,
                                         FollowerStream::Stream* stream) {
  v1::FollowerMessage first;
  if (!stream->Read(&first) || !first.has_hello()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "the first message is no Hello"};
  }
  std::shared_ptr<FollowerStream> node;
  absl::Status status = Admit(first.hello(), context, stream, &node);
  if (!status.ok()) {
    status = Annotate(status, StrCat("node ", first.hello().node_rank()));
    Log(LogLevel::kWarning, "a node was turned away", {{"error", FromAbsl(status.message())}});
    return ToGrpc(status);
  }
  Log(LogLevel::kInfo, "a node has come", {{"node", first.hello().node_rank()}});
  node->Serve([&](const absl::Status& error) { OnLost(node.get(), error); });
  return grpc::Status::OK;
}

void ControlLeader::Impl::OnLost(const FollowerStream* node, const absl::Status& error) {
  {
    std::lock_guard lock(mu_);
    if (gathering_) {  // it may come again
      for (auto& place : nodes_) {
        if (place.get() == node) place = nullptr;
      }
      return;
    }
  }
  lost_(error);
}

absl::Status ControlLeader::Impl::Gather(const std::function<void()>& wait) {
  const auto deadline = steady_clock::now() + kGatherTime;
  std::unique_lock lock(mu_);
  const auto missing = [&] {
    std::string names;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (!nodes_[i]) StrAppend(&names, names.empty() ? "" : ", ", i + 1);
    }
    return names;
  };
  Log(LogLevel::kInfo, "waiting for nodes", {{"nodes", missing()}});
  while (!changed_.wait_for(lock, kWaitTick, [&] { return missing().empty(); })) {
    wait();
    if (steady_clock::now() < deadline) continue;
    return absl::DeadlineExceededError(StrCat("waited ", kGatherTime.count() / 60,
                                              " minutes in vain for nodes ", missing(),
                                              ": start them, or see why they were turned away"));
  }
  gathering_ = false;
  return absl::OkStatus();
}

absl::Status ControlLeader::Impl::SendAll(const v1::LeaderMessage& message) {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (absl::Status status = nodes_[i]->Send(message); !status.ok()) {
      return Annotate(status, StrCat("node ", i + 1));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::FollowerMessage>> ControlLeader::Impl::ReceiveAll(
    v1::FollowerMessage::KindCase kind, const std::function<void()>& wait) {
  std::vector<v1::FollowerMessage> messages;
  while (messages.size() < nodes_.size()) {
    auto message = nodes_[messages.size()]->Receive(kind, kWaitTick);
    if (!message.ok()) return Annotate(message.status(), StrCat("node ", messages.size() + 1));
    if (*message) {
      messages.push_back(**std::move(message));
    } else {
      wait();
    }
  }
  return messages;
}

absl::StatusOr<std::unique_ptr<ControlLeader>> ControlLeader::Listen(
    const RankGroupOptions& options, std::function<void(const absl::Status& error)> lost) {
  auto impl = std::make_unique<Impl>(options, std::move(lost));
  TRIREME_RETURN_IF_ERROR(impl->Listen(options));
  return std::unique_ptr<ControlLeader>(new ControlLeader(std::move(impl)));
}

ControlLeader::ControlLeader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ControlLeader::~ControlLeader() = default;

absl::Status ControlLeader::Gather(int num_ranks, const std::string& model_digest,
                                   const std::function<void()>& wait) {
  const int num_nodes = static_cast<int>(impl_->nodes().size()) + 1;
  impl_->Expect(num_ranks / num_nodes, model_digest);
  return impl_->Gather(wait);
}

absl::Status ControlLeader::Start(const v1::LeaderMessage::Start& start) {
  for (const auto& node : impl_->nodes()) node->set_block_size(start.block_size());
  v1::LeaderMessage message;
  *message.mutable_start() = start;
  return impl_->SendAll(message);
}

absl::StatusOr<FreeMemory> ControlLeader::LeastMemory(FreeMemory own,
                                                      const std::function<void()>& wait) {
  TRIREME_ASSIGN_OR_RETURN(const auto answers,
                           impl_->ReceiveAll(v1::FollowerMessage::kLoaded, wait));
  for (const v1::FollowerMessage& answer : answers) {
    const auto& loaded = answer.loaded();
    if (!loaded.has_free_bytes()) {
      own.bytes.reset();  // unknown is least
    } else if (own.bytes) {
      own.bytes = std::min<int64_t>(*own.bytes, loaded.free_bytes());
    }
  }
  return own;
}

absl::Status ControlLeader::MakeKvCaches(int num_blocks, DType dtype,
                                         const std::function<void()>& wait) {
  v1::LeaderMessage message;
  message.mutable_kv_cache()->set_num_blocks(num_blocks);
  message.mutable_kv_cache()->set_dtype(std::string(DTypeName(dtype)));
  TRIREME_RETURN_IF_ERROR(impl_->SendAll(message));
  return impl_->ReceiveAll(v1::FollowerMessage::kReady, wait).status();
}

std::vector<std::shared_ptr<RemoteNode>> ControlLeader::nodes() {
  impl_->set_serving();
  return {impl_->nodes().begin(), impl_->nodes().end()};
}

}  // namespace trireme
