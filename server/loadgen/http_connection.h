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

// A Beast body that hands every piece on and keeps none.
struct PassedBody {
  using value_type = std::function<void(std::string_view)>;
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
        sink_({static_cast<const char*>(piece.data()), piece.size()});
        size += piece.size();
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
  Outcome outcome;
  std::function<void(Outcome outcome, std::string body)> done;
};

// What all connections of a client share. Outlives them.
struct HttpShared {
  asio::io_context* io;
  std::unique_ptr<asio::ssl::context> tls;  // null: plain
  std::string host;                         // that certificates must name
  tcp::resolver::results_type endpoints;
  std::chrono::nanoseconds timeout;
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
    reused_ = stream_.has_value();
    answered_ = false;
    job_.outcome.sent = std::chrono::steady_clock::now();
    timer_.expires_at(job_.outcome.sent + shared_->timeout);
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
    asio::async_connect(stream_->lowest_layer(), shared_->endpoints,
                        [self = Self()](error_code error, const tcp::endpoint&) {
                          if (error) return self->Finish("connect", error);
                          self->Connected();
                        });
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
    parser_->get().body() = [this](std::string_view bytes) { OnBody(bytes); };
    head_seen_ = false;
    reader_.Begin(&job_.outcome, job_.stream);
    asio::async_write(*stream_, asio::buffer(job_.bytes),
                      [self = Self()](error_code error, size_t) {
                        if (error) return self->Broken(error);
                        self->Read();
                      });
  }

  void Read() {
    http::async_read_some(*stream_, buffer_, *parser_, [self = Self()](error_code error, size_t n) {
      self->answered_ |= n > 0;
      if (error) return self->Broken(error);
      if (!self->parser_->is_done()) return self->Read();
      self->OnHead();
      self->reader_.End();
      self->Finish("", {});
    });
  }

  void OnHead() {
    if (std::exchange(head_seen_, true)) return;
    const auto& message = parser_->get();
    const auto type = message[http::field::content_type];
    reader_.Head(static_cast<int>(message.result_int()), {type.data(), type.size()});
  }

  void OnBody(std::string_view bytes) {
    OnHead();
    shared_->token_events += reader_.Body(bytes, std::chrono::steady_clock::now());
  }

  // The server may close an idle connection at any time: a request that met that is sent again, on
  // a new one.
  void Broken(error_code error) {
    if (reused_ && !answered_ && failure_.empty()) return Connect();
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
    if (!kind.empty() && outcome.ok()) {
      outcome.error = kind;
      outcome.error_message =
          Printable(kind == "timeout" ? "no complete answer in time" : error.message(),
                    kMaxErrorMessageBytes);
    }
    const bool reusable = kind.empty() && parser_->get().keep_alive();
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
  bool reused_ = false;  // the job began on a connection that had served one before
  bool answered_ = false, head_seen_ = false;
};

}  // namespace trireme::loadgen
