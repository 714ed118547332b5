// The threads that a CPU backend computes with: fork-join, a few microseconds per fork, several
// hundred forks a step.
//
//   caller (thread 0)      worker 1             worker 2
//   open  ---------------> joins                (asleep, or its core is taken by somebody else)
//   fn(0)                  fn(1)
//   close                  leaves               finds the door closed: nothing to do
//   waits for those inside
//
// The caller never waits for a worker that has not come: on a machine whose cores are busy, the
// work is done by those who are there. Hence work is claimed, not assigned: For() hands out ranges
// from a shared counter.
//
// Between forks a worker spins for a bounded time (decode steps follow each other closely), then
// sleeps in the kernel.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace trireme {

class ComputePool {
 public:
  struct Options {
    int num_threads = 1;  // with the caller; at least 1
    bool pin = false;     // each worker to its own CPU of the process's affinity mask, leaving the
                          // first to the caller
  };
  explicit ComputePool(const Options& options);
  ~ComputePool();
  ComputePool(const ComputePool&) = delete;
  ComputePool& operator=(const ComputePool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls fn(begin, end, thread) for consecutive ranges that cover [0, n), each at most `grain`
  // long (>= 1), on the caller and any number of workers; returns when all are done, with their
  // writes visible. `thread` is in [0, num_threads()) and no two concurrent calls have the same.
  // One caller at a time; fn must not call For.
  using RangeFunction = absl::FunctionRef<void(int64_t begin, int64_t end, int thread)>;
  void For(int64_t n, int64_t grain, RangeFunction fn);

 private:
  void Work(int thread);
  void RunRanges(int thread);
  void CloseAndWait();

  // One word: how many workers are inside, whether the door is open, and a number per opening, so
  // that a worker sees a new opening.
  static constexpr uint32_t kInsideMask = 0xffff;
  static constexpr uint32_t kOpen = 1u << 16;
  static constexpr uint32_t kOpening = 1u << 17;
  alignas(64) std::atomic<uint32_t> state_{0};
  std::atomic<uint32_t> left_{
      0};  // counts the times that the last worker left a closed door; the caller sleeps on it
  std::atomic<bool> stopping_{false};

  // The current work. Written by the caller while the door is closed and nobody is inside.
  alignas(64) std::atomic<int64_t> next_{0};
  int64_t size_ = 0;
  int64_t grain_ = 1;
  const RangeFunction* fn_ = nullptr;

  std::vector<std::thread> workers_;  // constant after construction
};

}  // namespace trireme
