#include "runtime/base/worker_pool.h"

#include <utility>

namespace trireme {

WorkerPool::WorkerPool(int num_threads, size_t max_queued) : max_queued_(max_queued) {
  threads_.reserve(static_cast<size_t>(num_threads));
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Run(); });
}

WorkerPool::~WorkerPool() {
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool WorkerPool::TrySubmit(absl::AnyInvocable<void()> work, Length length) {
  {
    std::lock_guard lock(mu_);
    if (stopping_ || short_.size() + long_.size() >= max_queued_) return false;
    (length == Length::kLong ? long_ : short_).push_back(std::move(work));
  }
  changed_.notify_one();
  return true;
}

// Short work first: it is over soon, and a single thread must serve both.
WorkerPool::Queue* WorkerPool::Runnable() {
  if (!short_.empty()) return &short_;
  return long_.empty() || long_running_ ? nullptr : &long_;
}

void WorkerPool::Run() {
  std::unique_lock lock(mu_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || Runnable() != nullptr; });
    Queue* queue = Runnable();
    if (queue == nullptr) return;  // what is left is long and follows what its thread runs now
    const bool is_long = queue == &long_;
    long_running_ |= is_long;
    {
      absl::AnyInvocable<void()> work = std::move(queue->front());
      queue->pop_front();
      lock.unlock();
      work();
    }
    lock.lock();
    if (is_long) long_running_ = false;
  }
}

}  // namespace trireme
