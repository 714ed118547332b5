// How callbacks wake the one coroutine of a connection. All calls on the connection's io thread.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>

namespace trireme::http {

using TimePoint = std::chrono::steady_clock::time_point;

class Waker {
 public:
  explicit Waker(const boost::asio::any_io_executor& executor) : timer_(executor) {}

  void Wake() {
    woken_ = true;
    timer_.cancel();
  }

  // Returns once woken since the last Wait, or at `deadline`. Reasons are flags of the caller, to
  // be looked at again: one wake may stand for many, and for one that was dealt with already.
  boost::asio::awaitable<void> Wait(TimePoint deadline) {
    if (!woken_) {
      timer_.expires_at(deadline);
      co_await timer_.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
    }
    woken_ = false;
  }

 private:
  boost::asio::steady_timer timer_;
  bool woken_ = false;
};

}  // namespace trireme::http
