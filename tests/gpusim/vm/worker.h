// A launch's clusters are dealt out to two workers, by seed. Each runs its share by itself, with
// random numbers of its own: which warp goes on, which copy lands. So a cluster does the same
// whether the workers have a thread each or take turns, as long as clusters do not look at what
// others do meanwhile (atomics, flags); where they do, one thread repeats a run exactly.
#pragma once

#include <array>
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
  // False: all is done, or the launch is aborted.
  bool Round();
  void Finish();  // all rounds

  // For the operations.
  Counters& counters() { return counters_; }
  std::mt19937_64& random() { return random_; }
  // Whether nothing can go on and the operations are run once more to say what they wait for.
  bool explaining() const { return explaining_; }

 private:
  void Admit();
  bool RunWarps();
  void Retire();
  void ReportDeadlock();

  Grid* const grid_;
  std::mt19937_64 random_;
  const std::vector<Share> clusters_;
  const size_t most_;  // clusters at the same time
  size_t next_ = 0;
  std::vector<std::unique_ptr<Cluster>> resident_;
  std::vector<Warp*> warps_;  // of the resident ones
  Counters counters_;
  bool explaining_ = false;
};

}  // namespace trireme::gpusim
