#include <optional>
#include <utility>
#include <variant>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/base/version.h"
#include "runtime/engine/refusals.h"
#include "server/dialects/openai/info.h"
#include "server/dialects/openai/requests.h"
#include "server/http/routes.h"

namespace trireme::http {
namespace {

namespace asio = boost::asio;

// An omitted model is the only one there is.
absl::Status CheckOptionalModel(const Node& node, std::string_view model) {
  return model.empty() ? absl::OkStatus() : CheckModel(node, model);
}

absl::StatusOr<std::string> Tokenize(const Node& node, std::string_view body) {
  TRIREME_ASSIGN_OR_RETURN(openai::TokenizeRequest request, openai::ParseTokenizeRequest(body));
  TRIREME_RETURN_IF_ERROR(CheckOptionalModel(node, request.model));
  std::vector<TokenId> tokens;
  if (auto* text = std::get_if<std::string>(&request.input)) {
    TRIREME_ASSIGN_OR_RETURN(tokens, EncodeText(node, *text, "prompt", request.add_special_tokens));
  } else {
    TextRequest chat;
    chat.model = node.info.id;
    chat.input = std::move(std::get<ChatPrompt>(request.input));
    TRIREME_ASSIGN_OR_RETURN(std::vector<GenerateRequest> prepared, Prepare(node, chat));
    tokens = std::move(prepared.front().prompt);
  }
  return openai::TokenizeAnswer(node, tokens, request.return_token_strings);
}

absl::StatusOr<std::string> Detokenize(const Node& node, std::string_view body) {
  TRIREME_ASSIGN_OR_RETURN(openai::DetokenizeRequest request, openai::ParseDetokenizeRequest(body));
  TRIREME_RETURN_IF_ERROR(CheckOptionalModel(node, request.model));
  TRIREME_ASSIGN_OR_RETURN(const std::string text,
                           DecodeTokens(node, request.tokens, "tokens", /*skip_special=*/false));
  return openai::DetokenizeAnswer(text);
}

// A JSON answer computed from the body on the workers.
asio::awaitable<void> Answer(Exchange& exchange,
                             absl::StatusOr<std::string> (*compute)(const Node&,
                                                                    std::string_view)) {
  absl::StatusOr<std::string> answer;
  const auto work = [&exchange, &answer, compute] {
    answer = compute(exchange.node(), exchange.request().body);
  };
  const Exchange::Work ran = co_await exchange.RunOnWorkers(work);
  if (ran == Exchange::Work::kPeerGone) co_return;
  if (ran == Exchange::Work::kQueueFull) answer = WorkersBusy();
  if (answer.ok()) {
    co_await exchange.Respond(200, kJson, *answer);
  } else {
    co_await exchange.RespondError(answer.status());
  }
}

}  // namespace

asio::awaitable<void> HandleHealth(Exchange& exchange) {
  const std::string body = R"({"status":"ok"})";
  co_await exchange.Respond(200, kJson, body);
}

asio::awaitable<void> HandleReady(Exchange& exchange) {
  const Node* const node = exchange.context().node.load();
  absl::Status state = node == nullptr ? Loading() : node->engine->accepting();
  if (state.ok() && !exchange.context().serving.load()) state = Draining();
  if (!state.ok()) {
    co_await exchange.RespondError(state);
    co_return;
  }
  const std::string body = R"({"status":"ready"})";
  co_await exchange.Respond(200, kJson, body);
}

asio::awaitable<void> HandleVersion(Exchange& exchange) {
  const std::string body = StrCat("{\"version\":\"", trireme::kVersion, "\"}");
  co_await exchange.Respond(200, kJson, body);
}

asio::awaitable<void> HandleMetrics(Exchange& exchange) {
  const std::string body = exchange.context().telemetry->metrics().Render();
  co_await exchange.Respond(200, "text/plain; version=0.0.4; charset=utf-8", body);
}

asio::awaitable<void> HandleModels(Exchange& exchange) {
  const std::string body = openai::ModelList(exchange.node().info);
  co_await exchange.Respond(200, kJson, body);
}

asio::awaitable<void> HandleModel(Exchange& exchange) {
  const std::string name = exchange.request().path.substr(std::string_view("/v1/models/").size());
  const absl::Status known = CheckModel(exchange.node(), name);
  if (!known.ok()) {
    co_await exchange.RespondError(known);
    co_return;
  }
  const std::string body = openai::ModelObject(exchange.node().info, name);
  co_await exchange.Respond(200, kJson, body);
}

asio::awaitable<void> HandleRequests(Exchange& exchange) {
  const Node& node = exchange.node();
  const std::string body =
      openai::RequestList(node.requests->List(exchange.tenant().id), node.clock->Now());
  co_await exchange.Respond(200, kJson, body, "Cache-Control: no-store\r\n");
}

asio::awaitable<void> HandleCancelRequest(Exchange& exchange) {
  const std::string id = exchange.request().path.substr(std::string_view("/v1/requests/").size());
  if (!exchange.node().requests->Cancel(exchange.tenant().id, id)) {
    const absl::Status unknown =
        WithCode(absl::NotFoundError("No request with this id is in flight."), "request_not_found");
    co_await exchange.RespondError(unknown);
    co_return;
  }
  const std::string body = openai::RequestCancelledAnswer(id);
  co_await exchange.Respond(200, kJson, body);
}

asio::awaitable<void> HandleTokenizerInfo(Exchange& exchange) {
  const std::string body = openai::TokenizerInfo(exchange.node());
  co_await exchange.Respond(200, kJson, body);
}

asio::awaitable<void> HandleTokenize(Exchange& exchange) { return Answer(exchange, Tokenize); }
asio::awaitable<void> HandleDetokenize(Exchange& exchange) { return Answer(exchange, Detokenize); }

}  // namespace trireme::http
