// Hands the news of a step over from the engine thread to those who wait for them: one task for as
// many as have news by the time it runs, where a task for each would cost the engine an allocation,
// a lock and perhaps a system call each.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace trireme {

// `Listener` has OnNews().
template <typename Listener>
class NewsQueue {
 public:
  // `post` (any thread) has Deliver called on the thread that OnNews is for. The queue outlives
  // that call.
  explicit NewsQueue(std::function<void(NewsQueue*)> post) : post_(std::move(post)) {}

  // Any thread. `listener` is kept until it had OnNews.
  void Push(std::shared_ptr<Listener> listener) {
    bool is_first;
    {
      std::lock_guard lock(mu_);
      is_first = pushed_.empty();
      pushed_.push_back(std::move(listener));
    }
    if (is_first) post_(this);
  }

  // That thread.
  void Deliver() {
    {
      std::lock_guard lock(mu_);
      delivered_.swap(pushed_);
    }
    for (const std::shared_ptr<Listener>& listener : delivered_) listener->OnNews();
    delivered_.clear();
  }

 private:
  const std::function<void(NewsQueue*)> post_;
  std::mutex mu_;
  std::vector<std::shared_ptr<Listener>> pushed_;     // guarded by mu_
  std::vector<std::shared_ptr<Listener>> delivered_;  // of that thread; keeps its capacity
};

}  // namespace trireme
