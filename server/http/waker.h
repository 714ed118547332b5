// How callbacks wake the one coroutine of a connection. All calls on the connection's io thread.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"

namespace trireme::http {

using TimePoint = std::chrono::steady_clock::time_point;

// A stream waits for every token, until a deadline that mostly never comes. So the timer stays as
// it is while deadlines only move away: when it goes off too early, it is set anew.
//
// A coroutine that waits keeps the waker alive, and the waker it: before the io_context goes,
// whoever waits has to be woken and to end.
class Waker {
 public:
  explicit Waker(const boost::asio::any_io_executor& executor)
      : state_(std::make_shared<State>(executor)) {}

  // The coroutine goes on in a later handler.
  void Wake() {
    state_->woken = true;
    if (state_->resume) boost::asio::post(state_->executor, std::exchange(state_->resume, nullptr));
  }
  // The coroutine goes on inside this call: only for callers that it may end under.
  void WakeNow() {
    state_->woken = true;
    if (auto resume = std::exchange(state_->resume, nullptr)) resume();
  }

  // Returns once woken since the last Wait, or at `deadline`. Reasons are flags of the caller, to
  // be looked at again: one wake may stand for many, and for one that was dealt with already.
  boost::asio::awaitable<void> Wait(TimePoint deadline) {
    if (!state_->woken) {
      const auto suspend = [state = state_.get(), deadline](auto handler) {
        state->resume = std::move(handler);
        state->deadline = deadline;
        if (deadline < state->timer_goes_off) SetTimer(state->shared_from_this());
      };
      co_await boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void()>(
          suspend, boost::asio::use_awaitable);
    }
    state_->woken = false;
  }

 private:
  struct State : std::enable_shared_from_this<State> {
    explicit State(const boost::asio::any_io_executor& e) : executor(e), timer(e) {}
    const boost::asio::any_io_executor executor;
    boost::asio::steady_timer timer;
    TimePoint timer_goes_off = TimePoint::max();  // max: it is not set
    TimePoint deadline;                           // of the wait in progress
    absl::AnyInvocable<void()> resume;            // empty: nobody waits
    bool woken = false;
  };

  static void SetTimer(const std::shared_ptr<State>& state) {
    state->timer_goes_off = state->deadline;
    state->timer.expires_at(state->deadline);  // an earlier wait of it is cancelled
    state->timer.async_wait([weak = std::weak_ptr(state)](boost::system::error_code error) {
      const std::shared_ptr<State> waker = weak.lock();
      if (error || waker == nullptr) return;
      waker->timer_goes_off = TimePoint::max();
      if (!waker->resume || waker->deadline == TimePoint::max()) return;
      if (std::chrono::steady_clock::now() < waker->deadline) {
        SetTimer(waker);
      } else {
        std::exchange(waker->resume, nullptr)();
      }
    });
  }

  const std::shared_ptr<State> state_;
};

}  // namespace trireme::http
