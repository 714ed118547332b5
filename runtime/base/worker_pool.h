// A small pool of threads for short CPU work that must not run on an I/O or engine thread:
// tokenization, templates, JSON of large bodies. The queue is bounded; the compute threads of the
// CPU backend are something else (runtime/backend/compute_pool.h).
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"

namespace trireme {

class WorkerPool {
 public:
  WorkerPool(int num_threads, size_t max_queued);
  ~WorkerPool();  // runs what is queued, then joins

  // Thread-safe. False when the queue is full: the caller answers "overloaded". Work must not
  // throw.
  [[nodiscard]] bool TrySubmit(absl::AnyInvocable<void()> work);

 private:
  void Run();
  const size_t max_queued_;
  std::mutex mu_;  // std's: ThreadSanitizer sees through it, and so through every hand-over
  std::condition_variable changed_;
  std::deque<absl::AnyInvocable<void()>> queue_;  // guarded by mu_
  bool stopping_ = false;                         // guarded by mu_
  std::vector<std::thread> threads_;              // constant after construction
};

}  // namespace trireme
