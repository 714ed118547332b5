#include "server/http/connection.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <exception>
#include <utility>

#include "runtime/base/log.h"
#include "runtime/engine/refusals.h"
#include "server/http/exchange.h"
#include "server/http/routes.h"

namespace trireme::http {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using openai::ApiError;
using openai::HttpError;

constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
constexpr size_t kWriteSlice = 64 << 10;      // one write timeout each
constexpr size_t kMaxReadAhead = 64 << 10;    // of requests behind the one being answered
constexpr size_t kMaxLingerBytes = 64 << 20;  // discarded after an early answer, at most
constexpr absl::Duration kLinger = absl::Seconds(2);
constexpr TimePoint kNever = TimePoint::max();
// Of an answer to an aborted request: the node is going away.
constexpr absl::Duration kAbortWriteTimeout = absl::Seconds(1);

TimePoint In(absl::Duration duration) {
  return std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(duration);
}
std::string_view KindOfPeer(const asio::ip::tcp::socket& socket) {
  error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  return error ? "other" : PeerKind(endpoint.address().to_string());
}
bool Passed(TimePoint deadline) { return std::chrono::steady_clock::now() >= deadline; }

}  // namespace

Connection::Connection(ServerContext* context, NewsQueue<Connection>* news,
                       std::unique_ptr<Transport> transport,
                       std::function<void(Connection*)> closed)
    : context_(context),
      news_(news),
      transport_(std::move(transport)),
      executor_(transport_->socket().get_executor()),
      closed_(std::move(closed)),
      peer_kind_(KindOfPeer(transport_->socket())),
      waker_(executor_) {}

Connection::~Connection() = default;

void Connection::Start() {
  asio::co_spawn(executor_, Run(), [self = shared_from_this()](const std::exception_ptr& failure) {
    // Out of memory, most likely. It ends this connection and nothing else.
    if (failure) Log(LogLevel::kError, "a connection failed unexpectedly");
    self->ReleaseBody();
    self->broken_ = true;
    self->transport_->Close();
    self->closed_(self.get());
  });
}

void Connection::Drain() {
  draining_ = true;
  if (idle_) waker_.Wake();
}

void Connection::Abort() {
  draining_ = aborted_ = true;
  waker_.Wake();
}

asio::awaitable<void> Connection::Run() {
  transport_->Handshake([self = shared_from_this()](error_code error, size_t) {
    self->writing_ = false;
    self->broken_ |= error.failed();
    self->Wake();
  });
  writing_ = true;
  const TimePoint deadline = In(context_->options.header_timeout);
  while (writing_ && !Passed(deadline) && !draining_) co_await waker_.Wait(deadline);
  if (writing_ || broken_) {
    broken_ = true;
    co_return;
  }
  for (bool more = true; more;) {
    more = co_await ServeOne();
    // Answers are mostly written at once: who sends many requests in a row gives the others a turn.
    if (more && !input_.empty()) co_await asio::post(executor_, asio::use_awaitable);
  }
  if (!broken_) co_await Linger();
}

// True when the connection is good for another request.
asio::awaitable<bool> Connection::ServeOne() {
  const bool arrived = co_await WaitForFirstByte();
  if (!arrived) co_return false;
  RequestParser parser(context_->options.max_header_bytes, context_->options.max_body_bytes);
  std::optional<ApiError> error = co_await ReadUntil(&parser, /*head=*/true);
  if (broken_) co_return false;
  HttpRequest head;
  if (parser.head_done()) head = parser.TakeHead();
  Exchange exchange(this, std::move(head));
  probed_ = false;
  const Route* route = nullptr;
  std::string extra_headers;
  if (!error) {
    route = FindRoute(exchange.request().path, context_->options);
    if (std::optional<Refusal> refusal = CheckHead(exchange, route)) {
      error = std::move(refusal->error);
      extra_headers = std::move(refusal->extra_headers);
    }
  }
  if (!error) error = co_await ReadBody(&parser, &exchange);
  if (broken_) {
    exchange.Finish(route);
    co_return false;
  }
  if (error) {
    // A refused body is not read: where the next request begins is unknown then.
    if (!parser.done()) exchange.set_must_close();
    co_await exchange.RespondError(*error, extra_headers);
  } else {
    co_await route->handler(exchange);
  }
  ReleaseBody();
  exchange.Finish(route);
  first_request_ = false;
  co_return !broken_ && !exchange.must_close();
}

// False when there will be none: closed, idle for too long, draining.
asio::awaitable<bool> Connection::WaitForFirstByte() {
  idle_ = true;
  const HttpServerOptions& options = context_->options;
  const TimePoint deadline = In(first_request_ ? options.header_timeout : options.idle_timeout);
  while (input_.empty() && !eof_ && !broken_ && !draining_ && !Passed(deadline)) {
    StartRead();
    co_await waker_.Wait(deadline);
  }
  // A request that has arrived is answered, drained or not.
  idle_ = input_.empty() || broken_ || aborted_;
  co_return !idle_;
}

// Feeds the parser until its head (or all of it) is complete.
asio::awaitable<std::optional<ApiError>> Connection::ReadUntil(RequestParser* parser, bool head) {
  const HttpServerOptions& options = context_->options;
  const TimePoint deadline = In(head ? options.header_timeout : options.body_timeout);
  for (;;) {
    if (std::optional<ApiError> error = parser->Feed(&input_)) co_return error;
    if (head ? parser->head_done() : parser->done()) co_return std::nullopt;
    if (std::optional<ApiError> error = ChargeBody(parser->body_bytes())) co_return error;
    // Half a request, and no more to come: nobody waits for an answer.
    if (eof_ || aborted_) broken_ = true;
    if (broken_) co_return std::nullopt;
    if (Passed(deadline)) {
      co_return HttpError(408, "The request did not arrive in time.", "request_timeout");
    }
    StartRead();
    co_await waker_.Wait(deadline);
  }
}

asio::awaitable<std::optional<ApiError>> Connection::ReadBody(RequestParser* parser,
                                                              Exchange* exchange) {
  HttpRequest& request = exchange->request();
  if (request.has_body && request.expect_continue && request.http_1_1 && input_.empty()) {
    const bool written = co_await Write(kContinue);
    if (!written) co_return std::nullopt;
  }
  std::optional<ApiError> error = co_await ReadUntil(parser, /*head=*/false);
  exchange->set_bytes_received(parser->body_bytes());
  if (!error && !broken_) request.body = parser->TakeBody();
  co_return error;
}

std::optional<ApiError> Connection::ChargeBody(size_t body_bytes) {
  const int64_t more = static_cast<int64_t>(body_bytes) - charged_body_bytes_;
  if (more <= 0) return std::nullopt;
  charged_body_bytes_ += more;
  const int64_t total = context_->buffered_body_bytes.fetch_add(more) + more;
  if (total <= context_->options.max_buffered_body_bytes) return std::nullopt;
  return openai::FromStatus(Overloaded("the requests in flight are too large together"));
}

void Connection::ReleaseBody() {
  context_->buffered_body_bytes.fetch_sub(std::exchange(charged_body_bytes_, 0));
}

void Connection::StartRead() {
  if (reading_ || eof_ || broken_) return;
  reading_ = true;
  transport_->Read(asio::buffer(read_buffer_),
                   [self = shared_from_this()](error_code error, size_t n) {
                     self->reading_ = false;
                     self->input_.append(self->read_buffer_.data(), n);
                     if (error == asio::error::eof || error == asio::ssl::error::stream_truncated) {
                       self->eof_ = true;
                     } else if (error) {
                       self->broken_ = true;
                     }
                     self->Wake();
                   });
}

// Once nothing is read any more, a reset shows as an error condition of the socket.
void Connection::WatchForReset() {
  if (watching_ || reading_ || broken_) return;
  watching_ = true;
  transport_->socket().async_wait(asio::ip::tcp::socket::wait_error,
                                  [self = shared_from_this()](error_code error) {
                                    self->watching_ = false;
                                    if (error == asio::error::operation_aborted) return;
                                    self->broken_ = true;
                                    self->Wake();
                                  });
}

asio::awaitable<bool> Connection::Write(std::string_view data) {
  // The kernel takes most writes at once; then nobody has to be told of their end.
  size_t offset = broken_ ? 0 : transport_->TryWrite(asio::buffer(data.data(), data.size()));
  bytes_sent_ += offset;
  for (size_t size = 0; offset < data.size() && !broken_; offset += size) {
    size = std::min(kWriteSlice, data.size() - offset);
    writing_ = true;
    transport_->Write(asio::buffer(data.data() + offset, size),
                      [self = shared_from_this()](error_code error, size_t n) {
                        self->writing_ = false;
                        self->bytes_sent_ += n;
                        self->broken_ |= error.failed();
                        self->Wake();
                      });
    TimePoint deadline = In(context_->options.write_timeout);
    while (writing_) {  // `data` must outlive the operation
      if (aborted_) deadline = std::min(deadline, In(kAbortWriteTimeout));
      if (Passed(deadline) || broken_) {
        broken_ = true;
        transport_->Close();
        deadline = kNever;
      }
      co_await waker_.Wait(deadline);
    }
  }
  co_return !broken_;
}

asio::awaitable<void> Connection::WaitForEvent(TimePoint deadline, std::string_view probe) {
  if (!broken_ && eof_ && !std::exchange(probed_, true)) {
    // What happened meanwhile has woken the write and nobody else: the caller looks again.
    co_await Write(probe);
    co_return;
  }
  WatchPeer();
  co_await waker_.Wait(deadline);
}

// Reads ahead, or at least learns of a reset.
void Connection::WatchPeer() {
  if (broken_) return;
  if (input_.size() < kMaxReadAhead) StartRead();
  if (!reading_) WatchForReset();
}

// After the last answer: tells the peer that nothing follows, then waits for it to close first.
// Closing at once with unread input would reset the connection and could destroy the answer on its
// way.
asio::awaitable<void> Connection::Linger() {
  const TimePoint deadline = In(aborted_ || idle_ ? absl::ZeroDuration() : kLinger);
  writing_ = true;
  transport_->ShutdownSend([self = shared_from_this()](error_code, size_t) {
    self->writing_ = false;
    self->Wake();
  });
  size_t discarded = 0;
  while ((!eof_ || writing_) && !broken_ && !Passed(deadline) && discarded < kMaxLingerBytes) {
    discarded += input_.size();
    input_.clear();
    StartRead();
    co_await waker_.Wait(deadline);
  }
}

}  // namespace trireme::http
