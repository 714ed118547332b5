#include "server/loadgen/http_client.h"

#include <boost/json.hpp>
#include <unordered_set>
#include <utility>
#include <vector>

#include "runtime/base/file.h"
#include "runtime/base/status.h"
#include "server/loadgen/http_connection.h"

namespace trireme::loadgen {
namespace {

namespace json = boost::json;

std::string RequestBody(const Request& request, const TargetOptions& options) {
  json::object body = {{"model", options.model},
                       {"stream", true},
                       {"stream_options", {{"include_usage", true}}},
                       {"max_tokens", request.max_tokens}};
  if (request.ignore_eos) body["ignore_eos"] = true;
  if (options.endpoint == "completions") {
    std::string prompt;
    for (const Message& message : request.messages) {
      StrAppend(&prompt, prompt.empty() ? "" : "\n", message.content);
    }
    body["prompt"] = prompt;
  } else {
    json::array messages;
    for (const Message& message : request.messages) {
      messages.push_back(json::object{{"role", message.role}, {"content", message.content}});
    }
    body["messages"] = std::move(messages);
  }
  return json::serialize(body);
}

template <typename Stream>
class HttpClient final : public Client {
 public:
  using Connection = HttpConnection<Stream>;

  HttpClient(HttpShared shared, const Target& target, std::chrono::nanoseconds timeout)
      : shared_(std::move(shared)), target_(target), timeout_(timeout) {}

  void set_options(const TargetOptions& options) { options_ = options; }

  void Send(const Request& request, TimePoint intended, Done done) override {
    const std::string body = RequestBody(request, options_);
    const char* const route =
        options_.endpoint == "completions" ? "/v1/completions" : "/v1/chat/completions";
    HttpJob job{.bytes = StrCat(Head("POST", route), "Content-Type: application/json\r\n",
                                "Content-Length: ", body.size(), "\r\n\r\n", body),
                .timeout = timeout_};
    job.outcome.intended = intended;
    job.outcome.max_token_events = MaxTokenEvents(request.max_tokens);
    job.done = [done = std::move(done)](Outcome outcome, const std::string&) {
      done(std::move(outcome));
    };
    Start(std::move(job));
  }

  void CancelAll() override {
    const std::vector<std::shared_ptr<Connection>> busy(busy_.begin(), busy_.end());
    for (const auto& connection : busy) connection->Abort("cancelled");
  }

  int64_t token_events() const override { return shared_.token_events; }

  // The id of the first model that the server names.
  absl::StatusOr<std::string> FirstModel() {
    std::optional<Outcome> outcome;
    std::string text;
    HttpJob job{
        .bytes = Head("GET", "/v1/models") + "\r\n", .stream = false, .timeout = kPreflightTimeout};
    job.done = [&](Outcome result, std::string body) {
      outcome = std::move(result);
      text = std::move(body);
    };
    Start(std::move(job));
    shared_.io->restart();
    while (!outcome) shared_.io->run_one();
    if (!outcome->ok()) {
      return absl::UnavailableError(
          StrCat("GET ", target_.url, ": ", outcome->error, ": ", outcome->error_message));
    }
    error_code error;
    const json::value models = json::parse(text, error);
    const json::value* id = error ? nullptr : models.find_pointer("/data/0/id", error);
    if (id == nullptr || !id->is_string()) {
      return absl::FailedPreconditionError(
          StrCat(target_.url, " names no model at /v1/models; give --model-name"));
    }
    return std::string(id->get_string());
  }

 private:
  std::string Head(std::string_view method, std::string_view route) const {
    std::string head =
        StrCat(method, " ", target_.path, route, " HTTP/1.1\r\nHost: ", target_.authority(),
               "\r\nUser-Agent: trireme-bench\r\n");
    if (!options_.api_key.empty())
      StrAppend(&head, "Authorization: Bearer ", options_.api_key, "\r\n");
    return head;
  }

  void Start(HttpJob job) {
    std::shared_ptr<Connection> connection;
    if (idle_.empty()) {
      connection = std::make_shared<Connection>(
          &shared_, [this](std::shared_ptr<Connection> released, bool reusable) {
            busy_.erase(released);
            if (reusable) idle_.push_back(std::move(released));
          });
    } else {
      connection = std::move(idle_.back());
      idle_.pop_back();
    }
    busy_.insert(connection);
    connection->Start(std::move(job));
  }

  HttpShared shared_;
  const Target target_;
  const std::chrono::nanoseconds timeout_;
  TargetOptions options_;
  std::vector<std::shared_ptr<Connection>> idle_;
  std::unordered_set<std::shared_ptr<Connection>> busy_;
};

absl::Status TrustCertificates(const std::string& ca_file, asio::ssl::context* tls) {
  error_code error;
  tls->set_verify_mode(asio::ssl::verify_peer, error);
  if (ca_file.empty()) {
    tls->set_default_verify_paths(error);
  } else {
    TRIREME_ASSIGN_OR_RETURN(const std::string pem, ReadFile(ca_file, kMaxSettingsBytes));
    tls->add_certificate_authority(asio::buffer(pem), error);
  }
  if (error) return absl::InvalidArgumentError(StrCat(ca_file, ": ", error.message()));
  return absl::OkStatus();
}

template <typename Stream>
absl::StatusOr<std::unique_ptr<Client>> Make(HttpShared shared, const Target& target,
                                             TargetOptions* options,
                                             std::chrono::nanoseconds timeout) {
  auto client = std::make_unique<HttpClient<Stream>>(std::move(shared), target, timeout);
  client->set_options(*options);
  if (options->model.empty()) {
    TRIREME_ASSIGN_OR_RETURN(options->model, client->FirstModel());
    client->set_options(*options);
  }
  return std::unique_ptr<Client>(std::move(client));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> MakeHttpClient(boost::asio::io_context* io,
                                                       const Target& target, TargetOptions* options,
                                                       std::chrono::nanoseconds timeout) {
  HttpShared shared{.io = io, .host = target.host};
  error_code error;
  shared.endpoints = tcp::resolver(*io).resolve(target.host, StrCat(target.port), error);
  if (error) return absl::UnavailableError(StrCat(target.host, ": ", error.message()));
  if (!target.tls) return Make<tcp::socket>(std::move(shared), target, options, timeout);
  shared.tls = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_client);
  TRIREME_RETURN_IF_ERROR(TrustCertificates(options->ca_file, shared.tls.get()));
  return Make<asio::ssl::stream<tcp::socket>>(std::move(shared), target, options, timeout);
}

}  // namespace trireme::loadgen
