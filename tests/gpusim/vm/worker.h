// A launch's clusters are dealt out to two workers, by seed. Each runs its share by itself, with
// random numbers of its own: which warp goes on, which copy lands. So a cluster does the same
// whether the workers have a thread each or take turns, as long as clusters do not look at what
// others do meanwhile (atomics, flags); where they do, one thread repeats a run exactly.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "tests/gpusim/vm/counters.h"

namespace trireme::gpusim {

class Cluster;
class Grid;
class Warp;

// Of one thread at a time.
class Worker {
 public:
  struct Share {
    std::array<int, 3> first_cta;
    uint32_t first_agent = 0;
  };
  Worker(Grid* grid, uint64_t seed, std::vector<Share> clusters);
  ~Worker();

  // Runs each warp that is there once, for a while, and between them copies of their clusters.
  void Round();
  bool done() const;  // or the launch is aborted
  // Whether it is done, or its warps did little of late but read flags (strong reads, atomics that
  // return): what they wait for may be for another device or the host to do. Thread-safe.
  bool idle() const { return idle_.load(std::memory_order_relaxed); }
  void Resume();  // it is not idle until it has been looked at again

  // For the operations.
  Counters& counters() { return counters_; }
  void NotePoll() { ++polls_; }
  // Runs f(), which is a matrix operation: how long these take is told apart.
  template <typename F>
  Flow TimeMatrix(F&& f) {
    const auto start = std::chrono::steady_clock::now();
    const Flow result = f();
    matrix_time_ += std::chrono::steady_clock::now() - start;
    counters_.matrix += result != Flow::kRetry ? 1 : 0;
    return result;
  }
  // Of the time in Round().
  std::chrono::nanoseconds time() const { return time_; }
  std::chrono::nanoseconds matrix_time() const { return matrix_time_; }
  std::mt19937_64& random() { return random_; }
  // Whether nothing can go on and the operations are run once more to say what they wait for.
  bool explaining() const { return explaining_; }

 private:
  void Admit();
  bool RunWarps();
  void Retire();
  void JudgePolls();
  void ReportDeadlock();

  Grid* const grid_;
  std::mt19937_64 random_;
  const std::vector<Share> clusters_;
  const size_t most_;  // clusters at the same time
  size_t next_ = 0;
  std::vector<std::unique_ptr<Cluster>> resident_;
  std::vector<Warp*> warps_;  // of the resident ones
  Counters counters_;
  std::chrono::nanoseconds time_{}, matrix_time_{};
  bool explaining_ = false;
  std::atomic<bool> idle_ = false;
  uint64_t polls_ = 0, instructions_before_ = 0;  // since JudgePolls() did
};

}  // namespace trireme::gpusim
