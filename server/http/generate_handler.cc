// POST /v1/chat/completions and /v1/completions: parse and tokenize on a worker, submit, then carry
// deltas to the client as fast as it reads: the generation is not pulled while a write is under
// way.
#include <memory>
#include <utility>
#include <vector>

#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/engine/refusals.h"
#include "server/dialects/openai/requests.h"
#include "server/dialects/openai/responses.h"
#include "server/http/routes.h"
#include "server/node/generation.h"

namespace trireme::http {
namespace {

namespace asio = boost::asio;
using openai::OpenAiRequest;
using Deltas = absl::StatusOr<absl::Span<ChoiceDelta>>;

struct Prepared {
  OpenAiRequest request;
  std::vector<GenerateRequest> engine_requests;
};

// On a worker.
absl::StatusOr<Prepared> ParseAndPrepare(Exchange& exchange, bool chat) {
  const Node& node = exchange.node();
  const std::string body = std::move(exchange.request().body);
  Prepared out;
  TRIREME_ASSIGN_OR_RETURN(out.request,
                           chat ? openai::ParseChatRequest(body, node.default_sampling)
                                : openai::ParseCompletionRequest(body, node.default_sampling));
  out.request.text.base.tenant = exchange.tenant().id;
  out.request.text.may_raise_priority = exchange.tenant().may_raise_priority;
  out.request.text.base.external_id = exchange.request_id();
  absl::StatusOr<std::vector<GenerateRequest>> prepared = Prepare(node, out.request.text);
  if (!prepared.ok()) return out.request.InClientTerms(prepared.status());
  out.engine_requests = *std::move(prepared);
  return out;
}

openai::AnswerHeader MakeHeader(const Exchange& exchange, const OpenAiRequest& request) {
  return {.chat = request.chat,
          .id = RandomId(request.chat ? "chatcmpl-" : "cmpl-"),
          .created = absl::ToUnixSeconds(exchange.context().clock->Now()),
          .model = request.text.model,
          .system_fingerprint = exchange.context().system_fingerprint};
}

// The whole answer at the end.
asio::awaitable<void> Collect(Exchange& exchange, const OpenAiRequest& request,
                              Generation& generation) {
  openai::AnswerBuilder answer(MakeHeader(exchange, request), generation.num_choices(),
                               request.text.base.sampling.logprobs.has_value());
  for (;;) {
    Deltas deltas = generation.TryNext();
    if (!deltas.ok()) {
      co_await exchange.RespondError(deltas.status());
      co_return;
    }
    for (ChoiceDelta& delta : *deltas) answer.Add(std::move(delta));
    exchange.ReportGenerated(generation.usage().completion_tokens);
    if (generation.done()) break;
    const Exchange::News news = co_await exchange.WaitForNews(&generation, TimePoint::max());
    if (news == Exchange::News::kPeerGone) co_return;
    if (news == Exchange::News::kAborted) {
      const absl::Status error = ShuttingDown();
      co_await exchange.RespondError(error);
      co_return;
    }
  }
  const std::string body = answer.Finish(generation.usage());
  co_await exchange.Respond(200, kJson, body);
}

// An error of a stream: an answer of its own while nothing has been sent, else the last event, and
// no [DONE].
asio::awaitable<void> FailStream(Exchange& exchange, const absl::Status& error) {
  if (!exchange.started()) {
    co_await exchange.RespondError(error);
    co_return;
  }
  Log(absl::IsCancelled(error) ? LogLevel::kInfo : LogLevel::kWarning, "stream failed",
      {{"request_id", exchange.request_id()}, {"error", FromAbsl(error.message())}});
  exchange.set_must_close();
  const openai::ApiError api_error = openai::FromStatus(error);
  exchange.NoteError(api_error);
  const std::string event = openai::ErrorEvent(openai::ErrorBody(api_error));
  co_await exchange.WriteEvents(event, /*last=*/true);
}

asio::awaitable<void> Stream(Exchange& exchange, const OpenAiRequest& request,
                             Generation& generation) {
  openai::ChunkWriter chunks(MakeHeader(exchange, request), generation.num_choices(),
                             request.text.base.sampling.logprobs.has_value(),
                             request.include_usage);
  const auto heartbeat = absl::ToChronoNanoseconds(exchange.context().options.heartbeat);
  TimePoint next_heartbeat = std::chrono::steady_clock::now() + heartbeat;
  std::string events;
  for (;;) {
    Deltas deltas = generation.TryNext();
    if (!deltas.ok()) {
      co_await FailStream(exchange, deltas.status());
      co_return;
    }
    events.clear();
    for (const ChoiceDelta& delta : *deltas) chunks.Append(&events, delta);
    exchange.ReportGenerated(generation.usage().completion_tokens);
    const bool done = generation.done();
    if (done && request.include_usage) chunks.AppendUsageChunk(&events, generation.usage());
    if (done) events += openai::kStreamEnd;
    if (!events.empty()) {
      const bool written = co_await exchange.WriteEvents(events, done);
      if (!written) co_return;
      next_heartbeat = std::chrono::steady_clock::now() + heartbeat;
    }
    if (done) co_return;
    const Exchange::News news = co_await exchange.WaitForNews(&generation, next_heartbeat);
    if (news == Exchange::News::kPeerGone) co_return;
    if (news == Exchange::News::kAborted) {
      const absl::Status error = ShuttingDown();
      co_await FailStream(exchange, error);
      co_return;
    }
    if (news == Exchange::News::kTimeout) {
      const bool written = co_await exchange.WriteEvents(openai::kHeartbeat, /*last=*/false);
      if (!written) co_return;
      next_heartbeat = std::chrono::steady_clock::now() + heartbeat;
    }
  }
}

asio::awaitable<void> Generate(Exchange& exchange, bool chat) {
  exchange.EnterRegistry();
  absl::StatusOr<Prepared> prepared;
  const auto work = [&exchange, &prepared, chat] { prepared = ParseAndPrepare(exchange, chat); };
  const Exchange::Work ran = co_await exchange.RunOnWorkers(work);
  if (ran == Exchange::Work::kPeerGone) co_return;
  if (ran == Exchange::Work::kQueueFull) prepared = WorkersBusy();
  if (exchange.cancelled()) prepared = RequestCancelled();
  if (!prepared.ok()) {
    co_await exchange.RespondError(prepared.status());
    co_return;
  }
  const OpenAiRequest& request = prepared->request;
  absl::StatusOr<std::unique_ptr<Generation>> started =
      Generation::Start(exchange.node(), request.text, std::move(prepared->engine_requests));
  if (!started.ok()) {
    const absl::Status error = request.InClientTerms(started.status());
    co_await exchange.RespondError(error);
    co_return;
  }
  const std::shared_ptr<Generation> generation = *std::move(started);
  exchange.SetGeneration(generation, request.text.model, request.stream);
  if (request.stream) {
    co_await Stream(exchange, request, *generation);
  } else {
    co_await Collect(exchange, request, *generation);
  }
}

}  // namespace

asio::awaitable<void> HandleChatCompletions(Exchange& exchange) {
  return Generate(exchange, /*chat=*/true);
}
asio::awaitable<void> HandleCompletions(Exchange& exchange) {
  return Generate(exchange, /*chat=*/false);
}

}  // namespace trireme::http
