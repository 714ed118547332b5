#include "server/ranks/control_follower.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/ranks/credentials.h"
#include "server/ranks/keepalive.h"
#include "trireme/v1/ranks.grpc.pb.h"

namespace trireme {
namespace {

using std::chrono::seconds;
using std::chrono::system_clock;

constexpr seconds kJoinTime{600};  // as the leader waits for nodes
constexpr seconds kRetryPause{1};
constexpr seconds kFailTime{2};  // for the leader to hear of a failure
// A step's block tables grow with the contexts in it.
constexpr int kMaxMessageBytes = 256 << 20;
constexpr size_t kMaxErrorBytes = 512;

// Of what is not an error yet: the leader's machine or process has not started.
bool IsNotThereYet(const grpc::Status& status) {
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE) return false;
  const std::string& text = status.error_message();
  for (const char* tls : {"andshake", "SSL", "certificate"}) {
    if (text.find(tls) != text.npos) return false;
  }
  return true;
}

}  // namespace

class ControlFollower::Impl {
 public:
  ~Impl();
  absl::Status Join(const RankGroupOptions& options, const v1::FollowerMessage::Hello& hello);
  void StartReading(std::function<void(const absl::Status&)> lost);

  void Send(const v1::FollowerMessage& message) { stream_->Write(message); }
  absl::StatusOr<v1::LeaderMessage> Receive();
  void Fail(const absl::Status& error);
  const v1::LeaderMessage::Start& start() const { return start_; }

 private:
  using Stream = grpc::ClientReaderWriter<v1::FollowerMessage, v1::LeaderMessage>;

  void Read(const std::function<void(const absl::Status&)>& lost);

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::RankControl::Stub> stub_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<Stream> stream_;
  v1::LeaderMessage::Start start_;

  std::mutex mu_;
  std::condition_variable changed_;
  // Guarded by mu_.
  std::optional<v1::LeaderMessage> received_;
  bool ended_ = false;    // nothing will be received any more
  bool leaving_ = false;  // this end of the call is to be expected
  std::thread reader_;
};

absl::Status ControlFollower::Impl::Join(const RankGroupOptions& options,
                                         const v1::FollowerMessage::Hello& hello) {
  TRIREME_ASSIGN_OR_RETURN(const auto credentials, FollowerCredentials(options));
  grpc::ChannelArguments arguments;
  for (const auto& [name, value] : kKeepalive) arguments.SetInt(name, value);
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  channel_ = grpc::CreateCustomChannel(options.leader, credentials, arguments);
  stub_ = v1::RankControl::NewStub(channel_);
  const auto deadline = system_clock::now() + kJoinTime;
  std::string said;
  for (;;) {
    const bool connected = channel_->WaitForConnected(system_clock::now() + kRetryPause);
    context_ = std::make_unique<grpc::ClientContext>();
    stream_ = stub_->Follow(context_.get());
    v1::FollowerMessage first;
    *first.mutable_hello() = hello;
    v1::LeaderMessage message;
    if (stream_->Write(first) && stream_->Read(&message)) {
      if (message.has_start()) {
        start_ = std::move(*message.mutable_start());
        return absl::OkStatus();
      }
      if (message.has_stop()) {
        return absl::UnavailableError(Printable(message.stop().error(), kMaxErrorBytes));
      }
      context_->TryCancel();
      return absl::InternalError("the leader's first message is no Start");
    }
    const grpc::Status status = stream_->Finish();
    stream_.reset();
    const std::string why = Printable(status.error_message(), kMaxErrorBytes);
    if (connected || !IsNotThereYet(status) || system_clock::now() > deadline) {
      return absl::UnavailableError(StrCat("--leader ", options.leader, ": ", why));
    }
    if (std::exchange(said, why) != why) {
      Log(LogLevel::kInfo, "waiting for the leader", {{"reason", why}});
    }
  }
}

void ControlFollower::Impl::StartReading(std::function<void(const absl::Status&)> lost) {
  reader_ = std::thread([this, lost = std::move(lost)] { Read(lost); });
}

ControlFollower::Impl::~Impl() {
  {
    std::lock_guard lock(mu_);
    leaving_ = true;
  }
  changed_.notify_all();
  if (stream_) {
    stream_->WritesDone();
    std::unique_lock lock(mu_);
    if (reader_.joinable()) changed_.wait_for(lock, kFailTime, [&] { return ended_; });
    context_->TryCancel();
  }
  if (reader_.joinable()) reader_.join();
  if (stream_) stream_->Finish();
}

void ControlFollower::Impl::Read(const std::function<void(const absl::Status&)>& lost) {
  v1::LeaderMessage message;
  bool told = false;
  std::string why = "the connection with the leader has ended";
  while (stream_->Read(&message)) {
    if (message.has_stop() && !message.stop().error().empty()) {
      why = Printable(message.stop().error(), kMaxErrorBytes);
      break;
    }
    told |= message.has_stop();
    std::unique_lock lock(mu_);
    // The leader sends nothing more before it has the answer to what it has sent: but for Stop.
    changed_.wait(lock, [&] { return !received_ || leaving_; });
    received_ = std::move(message);
    changed_.notify_all();
  }
  bool expected;
  {
    std::lock_guard lock(mu_);
    ended_ = true;
    expected = told || leaving_;
  }
  changed_.notify_all();
  if (!expected) lost(absl::UnavailableError(why));
}

absl::StatusOr<v1::LeaderMessage> ControlFollower::Impl::Receive() {
  std::unique_lock lock(mu_);
  changed_.wait(lock, [&] { return received_ || ended_; });
  if (!received_) return absl::UnavailableError("the connection with the leader has ended");
  v1::LeaderMessage message = *std::exchange(received_, std::nullopt);
  changed_.notify_all();
  return message;
}

void ControlFollower::Impl::Fail(const absl::Status& error) {
  {
    std::lock_guard lock(mu_);
    leaving_ = true;
  }
  changed_.notify_all();
  v1::FollowerMessage message;
  message.mutable_failure()->set_message(Printable(FromAbsl(error.message()), kMaxErrorBytes));
  Send(message);
}

absl::StatusOr<std::unique_ptr<ControlFollower>> ControlFollower::Join(
    const RankGroupOptions& options, const v1::FollowerMessage::Hello& hello,
    std::function<void(const absl::Status& error)> lost) {
  auto impl = std::make_unique<Impl>();
  TRIREME_RETURN_IF_ERROR(impl->Join(options, hello));
  impl->StartReading(std::move(lost));
  return std::unique_ptr<ControlFollower>(new ControlFollower(std::move(impl)));
}

ControlFollower::ControlFollower(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ControlFollower::~ControlFollower() = default;

const v1::LeaderMessage::Start& ControlFollower::start() const { return impl_->start(); }
void ControlFollower::Send(const v1::FollowerMessage& message) { impl_->Send(message); }
absl::StatusOr<v1::LeaderMessage> ControlFollower::Receive() { return impl_->Receive(); }
void ControlFollower::Fail(const absl::Status& error) { impl_->Fail(error); }

}  // namespace trireme
