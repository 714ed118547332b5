#include "server/http/exchange.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/post.hpp>
#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/base/strings.h"
#include "server/http/routes.h"

namespace trireme::http {
namespace {

namespace asio = boost::asio;
using openai::ApiError;

// What every answer begins with, whatever its status: the part that may be sent ahead (see
// connection.h).
constexpr std::string_view kVersion = "HTTP/1.1 ";
constexpr std::string_view kCommentEvent = ":\n\n";
constexpr std::string_view kCommentChunk = "3\r\n:\n\n\r\n";
constexpr std::string_view kLastChunk = "0\r\n\r\n";
// Of an answer that no client waited for: the code that proxies log.
constexpr int kClientClosedRequest = 499;
constexpr int kRetryAfterSeconds = 1;

std::string_view ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "";
  }
}

// Methods as metrics name them: the labels stay a fixed set.
std::string_view MethodLabel(std::string_view method) {
  for (const std::string_view known :
       {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}) {
    if (method == known) return known;
  }
  return "other";
}

// The room in the waiting queue, as OpenAI's clients read it. It is back to its limit when nothing
// waits; before, nobody knows when: what Retry-After says stands for it.
std::string RateLimits(const Engine& engine) {
  const SchedulerOptions& limits = engine.options().scheduler;
  const SchedulerStats used = engine.stats().scheduler;
  const auto headers = [](std::string_view what, int64_t limit, int64_t waiting) {
    return StrCat("x-ratelimit-limit-", what, ": ", limit, "\r\nx-ratelimit-remaining-", what, ": ",
                  std::max<int64_t>(limit - waiting, 0), "\r\nx-ratelimit-reset-", what, ": ",
                  waiting == 0 ? 0 : kRetryAfterSeconds * 1000, "ms\r\n");
  };
  return StrCat(headers("requests", limits.max_waiting_requests, used.waiting),
                headers("tokens", limits.max_waiting_prompt_tokens, used.waiting_prompt_tokens));
}

void AppendChunk(std::string_view payload, std::string* out) {
  StrAppend(out, absl::Hex(payload.size()), "\r\n", payload, "\r\n");
}

}  // namespace

Exchange::Exchange(Connection* connection, HttpRequest request)
    : connection_(connection),
      request_(std::move(request)),
      request_id_(IsSaneRequestId(request_.request_id) ? request_.request_id : RandomId("req_")),
      bytes_sent_before_(connection->bytes_sent()) {
  record_.id = request_id_;
  record_.method = MethodLabel(request_.method);
  record_.peer = connection->peer_kind();
  record_.begin = context().clock->Now();
  record_.trace = std::move(request_.trace);
}

bool Exchange::must_close() const {
  return must_close_ || !request_.keep_alive || context().closing.load();
}

std::string Exchange::Head(int status, std::string_view content_type, std::string_view framing,
                           std::string_view extra_headers) const {
  return StrCat(kVersion, status, " ", ReasonPhrase(status), "\r\nDate: ",
                absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone()),
                "\r\nServer: trireme\r\nContent-Type: ", content_type, "\r\n", framing,
                "Connection: ", must_close() ? "close" : "keep-alive",
                "\r\nx-request-id: ", request_id_, "\r\nopenai-processing-ms: ",
                absl::ToInt64Milliseconds(context().clock->Now() - record_.begin), "\r\n",
                generates() ? RateLimits(*node().engine) : "", extra_headers, "\r\n");
}

std::string Exchange::AfterProbe(std::string bytes) const {
  if (connection_->probed()) bytes.erase(0, kVersion.size());
  return bytes;
}

std::string_view Exchange::Probe() const {
  if (!started()) return kVersion;
  return request_.http_1_1 ? kCommentChunk : kCommentEvent;
}

asio::awaitable<void> Exchange::Respond(int status, std::string_view content_type,
                                        std::string_view body, std::string_view extra_headers) {
  TRIREME_CHECK(!started());
  // Of a 304 the length would be that of the body which is not sent.
  const std::string framing = status == 304 ? "" : StrCat("Content-Length: ", body.size(), "\r\n");
  std::string answer = AfterProbe(Head(status, content_type, framing, extra_headers));
  status_ = status;
  if (request_.method != "HEAD") answer += body;
  complete_ = co_await connection_->Write(answer);
}

asio::awaitable<void> Exchange::RespondError(const ApiError& error,
                                             std::string_view extra_headers) {
  std::string headers(extra_headers);
  if (openai::IsRetryable(error)) {
    StrAppend(&headers, "Retry-After: ", kRetryAfterSeconds, "\r\nx-should-retry: true\r\n");
  }
  if (error.http_status == 401) headers += "WWW-Authenticate: Bearer\r\n";
  if (error.http_status == 408) must_close_ = true;
  NoteError(error);
  const std::string body = openai::ErrorBody(error);
  co_await Respond(error.http_status, kJson, body, headers);
}

asio::awaitable<void> Exchange::RespondError(const absl::Status& status) {
  const ApiError error = openai::FromStatus(status);
  if (error.http_status == 500) {
    Log(LogLevel::kError, "request failed",
        {{"request_id", request_id_}, {"error", FromAbsl(status.message())}});
  }
  co_await RespondError(error, "");
}

asio::awaitable<bool> Exchange::WriteEvents(std::string_view events, bool last) {
  std::string& out = outgoing_;
  out.clear();
  if (!started()) {
    // Without chunks (HTTP/1.0) the end of the connection is the end of the stream.
    if (!request_.http_1_1) must_close_ = true;
    const std::string_view framing = request_.http_1_1 ? "Transfer-Encoding: chunked\r\n" : "";
    out = AfterProbe(Head(200, "text/event-stream; charset=utf-8", framing,
                          "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"));
    status_ = 200;
  }
  if (request_.http_1_1) {
    if (!events.empty()) AppendChunk(events, &out);
    if (last) out += kLastChunk;
  } else {
    out += events;
  }
  const bool written = co_await connection_->Write(out);
  complete_ = written && last;
  co_return written;
}

asio::awaitable<Exchange::Work> Exchange::RunOnWorkers(absl::FunctionRef<void()> work) {
  // `done` is set on the connection's thread, and this frame outlives the work: it always waits for
  // its end.
  bool done = false;
  std::atomic<bool> unwanted = false;
  auto job = [work, &done, &unwanted, executor = connection_->executor(),
              connection = connection_->shared_from_this()]() mutable {
    if (!unwanted.load()) work();
    asio::post(executor, [&done, connection = std::move(connection)] {
      done = true;
      connection->Wake();
    });
  };
  if (!node().workers->TrySubmit(std::move(job), LengthOfWork(request().body.size()))) {
    co_return Work::kQueueFull;
  }
  while (!done) {
    co_await connection_->WaitForEvent(TimePoint::max(), Probe());
    unwanted.store(connection_->abandoned() || cancelled());
  }
  co_return connection_->abandoned() ? Work::kPeerGone : Work::kDone;
}

asio::awaitable<Exchange::News> Exchange::WaitForNews(Generation* generation, TimePoint deadline) {
  // News may come after this has returned for another reason. Whoever waits next is woken for
  // nothing then, and finds no delta.
  connection_->ForgetNews();
  generation->NotifyWhenReady(
      [connection = connection_->shared_from_this()] { connection->PostNews(); });
  for (;;) {
    if (connection_->peer_gone()) co_return News::kPeerGone;
    if (connection_->aborted()) co_return News::kAborted;
    if (connection_->has_news() || cancelled()) co_return News::kReady;
    if (std::chrono::steady_clock::now() >= deadline) co_return News::kTimeout;
    co_await connection_->WaitForEvent(deadline, Probe());
  }
}

void Exchange::EnterRegistry() {
  cancellation_ = std::make_shared<Cancellation>();
  RequestInfo info{.id = request_id_,
                   .tenant = tenant_.id,
                   .door = RequestInfo::Door::kHttp,
                   .arrival = context().clock->Now()};
  ticket_ = node().requests->Enter(
      std::move(info), [cancellation = cancellation_, executor = connection_->executor(),
                        connection = connection_->shared_from_this()] {
        asio::post(executor, [cancellation, connection] {
          cancellation->requested = true;
          // At once, though the handler may be waiting for a client that does not read.
          if (auto generation = cancellation->generation.lock()) {
            generation->Cancel(RequestCancelled());
          }
          connection->Wake();
        });
      });
}

void Exchange::SetGeneration(const std::shared_ptr<Generation>& generation, std::string_view model,
                             bool stream) {
  generation_ = generation;
  cancellation_->generation = generation;
  record_.model = model;
  record_.stream = stream;
  ticket_.SetSubmitted(model, stream, generation->usage().prompt_tokens);
}

void Exchange::NoteError(const ApiError& error) {
  record_.error_code = error.code.empty() ? error.type : error.code;
}

void Exchange::Finish(const Route* route) {
  FinishedRequest record = std::move(record_);
  record.tenant = tenant_.id;
  record.route = route == nullptr ? "other" : route->label;
  record.routine = route != nullptr && route->routine;
  record.http_status = status_ == 0 ? kClientClosedRequest : status_;
  record.client_gone = !complete_;
  record.bytes_sent = connection_->bytes_sent() - bytes_sent_before_;
  if (generation_ != nullptr) {
    record.work = generation_->record();
    record.finish_reasons = generation_->finish_reasons();
    generation_.reset();
  }
  record.end = context().clock->Now();
  context().telemetry->OnRequest(std::move(record));
}

}  // namespace trireme::http
