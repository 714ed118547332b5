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

  // Long work (a text of megabytes) runs on one thread at a time, so that with two or more threads
  // it never holds up short work.
  enum class Length { kShort, kLong };

  // Thread-safe. False when the queue is full: the caller answers "overloaded". Work must not
  // throw. Each length is served in order of submission.
  [[nodiscard]] bool TrySubmit(absl::AnyInvocable<void()> work, Length length = Length::kShort);

 private:
  using Queue = std::deque<absl::AnyInvocable<void()>>;

  void Run();
  Queue* Runnable();  // with mu_ held; null: nothing to run now

  const size_t max_queued_;
  std::mutex mu_;  // std's: ThreadSanitizer sees through it, and so through every hand-over
  std::condition_variable changed_;
  // Guarded by mu_.
  Queue short_, long_;
  bool long_running_ = false;
  bool stopping_ = false;
  std::vector<std::thread> threads_;  // constant after construction
};

}  // namespace trireme
