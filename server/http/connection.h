// One connection from accept to close: reads requests one after the other, has each answered, keeps
// alive, and knows at any moment whether the peer is still there. Internal to server/http; io
// thread of the connection only.
//
// Reading never stops while an answer is computed, so that a vanished client is noticed at once. An
// end of input alone is no proof of that: a client may close its sending half and wait. Then the
// first bytes of the answer, which are the same for every answer, are sent ahead; a peer that has
// closed altogether replies with a reset.
//
// Two habits of this folder keep GCC 12's coroutines right. What is awaited takes views, references
// and plain values of named objects: a temporary may be moved bytewise into the frame, which breaks
// a short std::string. And no condition holds a co_await: with a temporary in it, the coroutine is
// never resumed. Results get a name first.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "server/http/request_parser.h"
#include "server/http/server_context.h"
#include "server/http/transport.h"
#include "server/http/waker.h"
#include "server/node/news_queue.h"

namespace trireme::http {

class Exchange;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // `context` and `news`, that of the io thread, outlive the connection. `closed` is called on the
  // io thread when everything has ended.
  Connection(ServerContext* context, NewsQueue<Connection>* news,
             std::unique_ptr<Transport> transport, std::function<void(Connection*)> closed);
  ~Connection();

  void Start();  // spawns the coroutine
  void Drain();  // closes when idle, else after the current answer
  void Abort();  // fails the current answer and closes

  // ---- For the exchange in progress.

  // Writes all of `data`, which lives until then. False when the peer is gone or makes no progress
  // within the write timeout.
  boost::asio::awaitable<bool> Write(std::string_view data);
  // Sleeps until something happened: Wake(), the peer, Abort(), or the deadline. `probe`: sent once
  // if the peer's sending half is closed; afterwards peer_gone() tells the truth.
  boost::asio::awaitable<void> WaitForEvent(TimePoint deadline, std::string_view probe);
  void Wake() { waker_.Wake(); }
  // Any thread: there is something for the exchange, which may turn out to have ended. It is woken
  // with has_news(), which stays until ForgetNews.
  void PostNews() { news_->Push(shared_from_this()); }
  bool has_news() const { return has_news_; }
  void ForgetNews() { has_news_ = false; }
  // Of NewsQueue, which keeps the connection alive meanwhile.
  void OnNews() {
    has_news_ = true;
    waker_.WakeNow();
  }
  bool probed() const { return probed_; }
  bool peer_gone() const { return broken_; }
  // Nobody waits for the answer any more: the peer has gone, or the server ends connections.
  bool abandoned() const { return broken_ || aborted_; }
  bool aborted() const { return aborted_; }
  ServerContext& context() const { return *context_; }
  boost::asio::any_io_executor executor() const { return executor_; }
  std::string_view peer_kind() const { return peer_kind_; }
  uint64_t bytes_sent() const { return bytes_sent_; }  // so far

 private:
  boost::asio::awaitable<void> Run();
  boost::asio::awaitable<bool> ServeOne();
  boost::asio::awaitable<bool> WaitForFirstByte();
  boost::asio::awaitable<std::optional<openai::ApiError>> ReadUntil(RequestParser* parser,
                                                                    bool head);
  boost::asio::awaitable<std::optional<openai::ApiError>> ReadBody(RequestParser* parser,
                                                                   Exchange* exchange);
  boost::asio::awaitable<void> Linger();
  void StartRead();
  void WatchPeer();
  void WatchForReset();
  std::optional<openai::ApiError> ChargeBody(size_t body_bytes);
  void ReleaseBody();

  ServerContext* const context_;
  NewsQueue<Connection>* const news_;
  const std::unique_ptr<Transport> transport_;
  const boost::asio::any_io_executor executor_;
  const std::function<void(Connection*)> closed_;
  const std::string_view peer_kind_;  // see PeerKind
  Waker waker_;

  std::string input_;  // received, not yet parsed
  std::array<char, 16384> read_buffer_;
  uint64_t bytes_sent_ = 0;
  int64_t charged_body_bytes_ = 0;  // of context_->buffered_body_bytes
  bool has_news_ = false;
  bool first_request_ = true;
  bool idle_ = true;      // between requests
  bool reading_ = false;  // an operation is under way
  bool writing_ = false;
  bool watching_ = false;
  bool eof_ = false;     // the peer sends no more
  bool broken_ = false;  // reset, timed out or closed by us
  bool probed_ = false;  // this answer has begun with the probe
  bool draining_ = false, aborted_ = false;
};

}  // namespace trireme::http
