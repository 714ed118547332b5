// Hands the news of a step over from the engine thread to an io thread: one hand-over for as many
// connections as have news by the time the io thread comes to it, where a post for each would cost
// the engine an allocation, a lock and perhaps a system call each.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace trireme::http {

class Connection;

class NewsQueue {
 public:
  // `io` outlives the queue; the queue outlives what runs on it.
  explicit NewsQueue(boost::asio::io_context* io) : io_(io) {}

  // Any thread. `connection` gets OnNews, on the io thread.
  void Push(std::shared_ptr<Connection> connection) {
    bool is_first;
    {
      std::lock_guard lock(mu_);
      is_first = pushed_.empty();
      pushed_.push_back(std::move(connection));
    }
    if (is_first) boost::asio::post(*io_, [this] { HandOver(); });
  }

 private:
  void HandOver();

  boost::asio::io_context* const io_;
  std::mutex mu_;
  std::vector<std::shared_ptr<Connection>> pushed_;       // guarded by mu_
  std::vector<std::shared_ptr<Connection>> handed_over_;  // io thread only; keeps its capacity
};

}  // namespace trireme::http
