#include "server/loadgen/grpc_client.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <boost/asio/post.hpp>
#include <unordered_set>
#include <utility>

#include "absl/strings/match.h"
#include "runtime/base/file.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "trireme/v1/inference.grpc.pb.h"

namespace trireme::loadgen {
namespace {

namespace asio = boost::asio;

const char* CodeName(grpc::StatusCode code) {
  constexpr const char* kNames[] = {"OK",
                                    "CANCELLED",
                                    "UNKNOWN",
                                    "INVALID_ARGUMENT",
                                    "DEADLINE_EXCEEDED",
                                    "NOT_FOUND",
                                    "ALREADY_EXISTS",
                                    "PERMISSION_DENIED",
                                    "RESOURCE_EXHAUSTED",
                                    "FAILED_PRECONDITION",
                                    "ABORTED",
                                    "OUT_OF_RANGE",
                                    "UNIMPLEMENTED",
                                    "INTERNAL",
                                    "UNAVAILABLE",
                                    "DATA_LOSS",
                                    "UNAUTHENTICATED"};
  const auto index = static_cast<size_t>(code);
  return index < std::size(kNames) ? kNames[index] : "UNKNOWN";
}

std::string ErrorKind(const grpc::Status& status, bool cancelled_here) {
  if (cancelled_here) return "cancelled";
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) return "timeout";
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE &&
      absl::StrContains(status.error_message(), "failed to connect")) {
    return "connect";
  }
  return StrCat("grpc_", CodeName(status.error_code()));
}

v1::GenerateRequest ToProto(const Request& request, const TargetOptions& options) {
  v1::GenerateRequest out;
  out.set_model(options.model);
  out.set_max_tokens(request.max_tokens);
  out.set_ignore_eos(request.ignore_eos);
  if (options.endpoint == "completions") {
    for (const Message& message : request.messages) {
      if (!out.prompt().empty()) out.mutable_prompt()->push_back('\n');
      out.mutable_prompt()->append(message.content);
    }
  } else {
    for (const Message& message : request.messages) {
      v1::ChatMessage* to = out.mutable_chat()->add_messages();
      to->set_role(message.role);
      to->set_content(message.content);
    }
  }
  return out;
}

// One stream. Its callbacks come one after the other, on gRPC's threads; the last deletes it.
class Call final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  using Ended = std::function<void(Call*, Outcome)>;  // on the io thread

  Call(asio::io_context* io, std::atomic<int64_t>* token_events, Ended ended)
      : io_(io), token_events_(token_events), ended_(std::move(ended)) {}

  void Start(v1::Inference::Stub* stub, v1::GenerateRequest request, const std::string& api_key,
             TimePoint intended, std::chrono::nanoseconds timeout) {
    request_ = std::move(request);
    outcome_.intended = intended;
    outcome_.sent = std::chrono::steady_clock::now();
    outcome_.max_token_events = MaxTokenEvents(request_.max_tokens());
    context_.set_deadline(std::chrono::system_clock::now() +
                          std::chrono::duration_cast<std::chrono::microseconds>(timeout));
    if (!api_key.empty()) context_.AddMetadata("authorization", "Bearer " + api_key);
    stub->async()->Generate(&context_, &request_, this);
    StartRead(&response_);
    StartCall();
  }
  void Cancel() {  // io thread
    cancelled_.store(true);
    context_.TryCancel();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (!response_.text().empty()) {
      outcome_.Token(std::chrono::steady_clock::now());
      if (!outcome_.ok()) return context_.TryCancel();
      token_events_->fetch_add(1, std::memory_order_relaxed);
    }
    if (response_.has_usage()) {
      outcome_.has_usage = true;
      outcome_.usage = {response_.usage().prompt_tokens(), response_.usage().completion_tokens(),
                        response_.usage().cached_tokens()};
    }
    StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    outcome_.end = std::chrono::steady_clock::now();
    if (!status.ok()) outcome_.Fail(ErrorKind(status, cancelled_.load()), status.error_message());
    asio::post(*io_, [this] { ended_(this, std::move(outcome_)); });
  }

 private:
  asio::io_context* const io_;
  std::atomic<int64_t>* const token_events_;
  const Ended ended_;
  grpc::ClientContext context_;
  v1::GenerateRequest request_;
  v1::GenerateResponse response_;
  Outcome outcome_;
  std::atomic<bool> cancelled_ = false;
};

class GrpcClient final : public Client {
 public:
  GrpcClient(asio::io_context* io, std::shared_ptr<grpc::Channel> channel,
             std::chrono::nanoseconds timeout)
      : io_(io), stub_(v1::Inference::NewStub(std::move(channel))), timeout_(timeout) {}

  absl::Status Preflight(TargetOptions* options) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kPreflightTimeout);
    if (!options->api_key.empty()) {
      context.AddMetadata("authorization", "Bearer " + options->api_key);
    }
    v1::GetModelInfoResponse info;
    const grpc::Status status = stub_->GetModelInfo(&context, {}, &info);
    if (!status.ok()) {
      return absl::UnavailableError(
          StrCat(options->url, ": ", ErrorKind(status, false), ": ",
                 Printable(status.error_message(), kMaxErrorMessageBytes)));
    }
    if (options->model.empty()) options->model = info.id();
    options_ = *options;
    return absl::OkStatus();
  }

  void Send(const Request& request, TimePoint intended, Done done) override {
    auto call = std::make_unique<Call>(
        io_, &token_events_, [this, done = std::move(done)](Call* ended, Outcome outcome) {
          const Done last = done;  // which `ended` owns
          calls_.erase(ended);
          delete ended;
          last(std::move(outcome));
        });
    Call* const started = call.release();  // deletes itself as its last deed
    calls_.insert(started);
    started->Start(stub_.get(), ToProto(request, options_), options_.api_key, intended, timeout_);
  }

  void CancelAll() override {
    for (Call* call : calls_) call->Cancel();
  }

  int64_t token_events() const override { return token_events_.load(std::memory_order_relaxed); }

 private:
  asio::io_context* const io_;
  const std::unique_ptr<v1::Inference::Stub> stub_;
  const std::chrono::nanoseconds timeout_;
  TargetOptions options_;
  std::atomic<int64_t> token_events_ = 0;
  std::unordered_set<Call*> calls_;  // io thread
};

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(const Target& target,
                                                                      const std::string& ca_file) {
  if (!target.tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  if (!ca_file.empty()) {
    TRIREME_ASSIGN_OR_RETURN(options.pem_root_certs, ReadFile(ca_file, kMaxSettingsBytes));
    if (options.pem_root_certs.empty()) {
      return absl::InvalidArgumentError(StrCat(ca_file, ": empty"));
    }
  }
  return grpc::SslCredentials(options);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> MakeGrpcClient(boost::asio::io_context* io,
                                                       const Target& target, TargetOptions* options,
                                                       std::chrono::nanoseconds timeout) {
  TRIREME_ASSIGN_OR_RETURN(auto credentials, Credentials(target, options->ca_file));
  auto client = std::make_unique<GrpcClient>(
      io, grpc::CreateChannel(target.authority(), credentials), timeout);
  TRIREME_RETURN_IF_ERROR(client->Preflight(options));
  return std::unique_ptr<Client>(std::move(client));
}

}  // namespace trireme::loadgen
