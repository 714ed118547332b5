// One connection to an HTTP server, used for one request after the other. Internal to
// http_client.cc.
#pragma once

#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "runtime/base/strings.h"
#include "server/loadgen/answer_reader.h"

namespace trireme::loadgen {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

// A Beast body that hands every piece on and keeps none. Reading ends with operation_aborted where
// the taker wants no more.
struct PassedBody {
  using value_type = std::function<bool(std::string_view)>;
  class reader {
   public:
    template <bool is_request, typename Fields>
    reader(http::header<is_request, Fields>&, value_type& sink) : sink_(sink) {}
    void init(const boost::optional<uint64_t>&, error_code& error) { error = {}; }
    template <typename Buffers>
    size_t put(const Buffers& buffers, error_code& error) {
      error = {};
      size_t size = 0;
      for (auto it = asio::buffer_sequence_begin(buffers); it != asio::buffer_sequence_end(buffers);
           ++it) {
        const asio::const_buffer piece = *it;
        size += piece.size();
        if (sink_({static_cast<const char*>(piece.data()), piece.size()})) continue;
        error = asio::error::operation_aborted;
        break;
      }
      return size;
    }
    void finish(error_code& error) { error = {}; }

   private:
    value_type& sink_;
  };
};

struct HttpJob {
  std::string bytes;  // the whole request
  bool stream = true;
  std::chrono::nanoseconds timeout;
  Outcome outcome;
  std::function<void(Outcome outcome, std::string body)> done;
};

// What all connections of a client share. Outlives them.
struct HttpShared {
  asio::io_context* io;
  std::unique_ptr<asio::ssl::context> tls;  // null: plain
  std::string host;                         // that certificates must name
  tcp::resolver::results_type endpoints;
  int64_t token_events = 0;
};

// Stream: tcp::socket or asio::ssl::stream<tcp::socket>. Handlers keep the connection alive.
template <typename Stream>
class HttpConnection : public std::enable_shared_from_this<HttpConnection<Stream>> {
 public:
  // Called before `done` of a job: may the connection take another one?
  using Released = std::function<void(std::shared_ptr<HttpConnection>, bool reusable)>;

  HttpConnection(HttpShared* shared, Released released)
      : shared_(shared), released_(std::move(released)), timer_(*shared->io) {}

  void Start(HttpJob job) {
    job_ = std::move(job);
    failure_.clear();
    reused_ = stream_.has_value() && Quiet();
    answered_ = false;
    job_.outcome.sent = std::chrono::steady_clock::now();
    timer_.expires_at(job_.outcome.sent + job_.timeout);
    timer_.async_wait([self = Self()](error_code error) {
      // An expiry that was on its way when its job ended must not hit the next job.
      const bool due = self->timer_.expiry() <= std::chrono::steady_clock::now();
      if (!error && due) self->Abort("timeout");
    });
    if (reused_) {
      Write();
    } else {
      Connect();
    }
  }

  // The job in flight, if any, ends with `kind`.
  void Abort(const char* kind) {
    if (!job_.done) return;
    failure_ = kind;
    error_code ignored;
    if (stream_) stream_->lowest_layer().close(ignored);
  }

 private:
  static constexpr bool kTls = !std::is_same_v<Stream, tcp::socket>;
  std::shared_ptr<HttpConnection> Self() { return this->shared_from_this(); }

  // Between two jobs a server has nothing to say: bytes that came all the same are no answer to the
  // next one. (Over TLS they may be session tickets.)
  bool Quiet() {
    if (kTls) return true;
    error_code error;
    return stream_->lowest_layer().available(error) == 0 && !error;
  }

  void Connect() {
    reused_ = false;
    buffer_.clear();
    if constexpr (kTls) {
      stream_.emplace(*shared_->io, *shared_->tls);
      stream_->set_verify_callback(asio::ssl::host_name_verification(shared_->host));
      error_code no_address;  // server names are names: RFC 6066 has no addresses there
      asio::ip::make_address(shared_->host, no_address);
      if (no_address) SSL_set_tlsext_host_name(stream_->native_handle(), shared_->host.c_str());
    } else {
      stream_.emplace(*shared_->io);
    }
    ConnectTo(shared_->endpoints.begin());
  }

  // One address after the other. The socket is opened here because asio::async_connect calls every
  // failure to open one a cancellation.
  void ConnectTo(tcp::resolver::results_type::const_iterator address) {
    auto& socket = stream_->lowest_layer();
    error_code error;
    socket.close(error);
    socket.open(address->endpoint().protocol(), error);
    if (error)
      return asio::post(*shared_->io, [=, self = Self()] { self->Opened(address, error); });
    socket.async_connect(address->endpoint(),
                         [=, self = Self()](error_code failed) { self->Opened(address, failed); });
  }

  void Opened(tcp::resolver::results_type::const_iterator address, error_code error) {
    if (!error) return Connected();
    const bool full = error == boost::system::errc::too_many_files_open ||
                      error == boost::system::errc::too_many_files_open_in_system;
    if (full) return Finish("descriptors", error);
    if (++address == shared_->endpoints.end() || !failure_.empty()) return Finish("connect", error);
    ConnectTo(address);
  }

  void Connected() {
    if (!failure_.empty()) return Finish("connect", asio::error::operation_aborted);
    error_code ignored;
    stream_->lowest_layer().set_option(tcp::no_delay(true), ignored);
    if constexpr (kTls) {
      stream_->async_handshake(asio::ssl::stream_base::client, [self = Self()](error_code error) {
        if (error) return self->Finish("tls", error);
        self->Write();
      });
    } else {
      Write();
    }
  }

  void Write() {
    parser_.emplace();
    parser_->eager(true);
    parser_->body_limit(boost::none);
    parser_->get().body() = [this](std::string_view bytes) { return OnBody(bytes); };
    head_seen_ = false;
    write_error_ = {};
    reader_.Begin(&job_.outcome, job_.stream);
    // A server may refuse a request before it has read it all, and close: the refusal is read.
    asio::async_write(*stream_, asio::buffer(job_.bytes),
                      [self = Self()](error_code error, size_t) {
                        self->write_error_ = error;
                        self->Read();
                      });
  }

  void Read() {
    http::async_read_some(*stream_, buffer_, *parser_, [self = Self()](error_code error, size_t n) {
      self->answered_ |= n > 0;
      if (error) return self->Broken(self->write_error_ ? self->write_error_ : error);
      if (self->parser_->is_done()) {
        self->OnHead();
        self->reader_.End();
        return self->Finish("", {});
      }
      self->Read();
    });
  }

  void OnHead() {
    if (std::exchange(head_seen_, true)) return;
    answered_ = true;
    const auto& message = parser_->get();
    const auto type = message[http::field::content_type];
    reader_.Head(static_cast<int>(message.result_int()), {type.data(), type.size()});
  }

  // False: the verdict is known, and nobody waits for the rest.
  bool OnBody(std::string_view bytes) {
    OnHead();
    shared_->token_events += reader_.Body(bytes, std::chrono::steady_clock::now());
    return job_.outcome.ok();
  }

  // The server may close an idle connection at any time: a request that met that is sent again, on
  // a new one.
  void Broken(error_code error) {
    if (reused_ && !answered_ && failure_.empty()) {
      job_.outcome.resent = true;
      return Connect();
    }
    const bool is_http = error.category() == make_error_code(http::error::bad_version).category() &&
                         error != http::error::partial_message &&
                         error != http::error::end_of_stream;
    Finish(is_http ? "protocol" : "closed", error);
  }

  void Finish(std::string kind, error_code error) {
    timer_.cancel();
    Outcome& outcome = job_.outcome;
    outcome.end = std::chrono::steady_clock::now();
    if (!failure_.empty()) kind = failure_;
    if (!kind.empty()) {
      outcome.Fail(kind, kind == "timeout" ? "no complete answer in time" : error.message());
    }
    // Bytes behind the answer would be taken for the next one.
    const bool reusable = kind.empty() && parser_->is_done() && parser_->get().keep_alive() &&
                          !write_error_ && buffer_.size() == 0;
    if (!reusable) stream_.reset();
    HttpJob job = std::exchange(job_, HttpJob());
    released_(Self(), reusable);
    job.done(std::move(job.outcome), reader_.body());
  }

  HttpShared* const shared_;
  const Released released_;
  asio::steady_timer timer_;
  std::optional<Stream> stream_;  // empty: not connected
  boost::beast::flat_buffer buffer_{1 << 17};
  std::optional<http::response_parser<PassedBody>> parser_;
  AnswerReader reader_;
  HttpJob job_;          // done is null between jobs
  std::string failure_;  // why the job was aborted; empty: it was not
  error_code write_error_;
  bool reused_ = false;  // the job began on a connection that had served one before
  bool answered_ = false, head_seen_ = false;
};

}  // namespace trireme::loadgen
