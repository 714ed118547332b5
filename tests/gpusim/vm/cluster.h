// CTAs that run together and reach each other's shared memory (PTX ISA, "Cluster of Cooperative
// Thread Arrays", "barrier.cluster", "mapa").
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tests/gpusim/vm/async_work.h"
#include "tests/gpusim/vm/grid.h"

namespace trireme::gpusim {

class Cluster {
 public:
  // `worker` runs it. `first_agent`: the number in the launch of its first agent.
  Cluster(Grid* grid, Worker* worker, std::array<int, 3> first_cta, uint32_t first_agent);

  Worker& worker() { return *worker_; }
  int size() const { return static_cast<int>(ctas_.size()); }
  Cta& cta(uint32_t rank) { return *ctas_[rank]; }
  std::vector<std::unique_ptr<Cta>>& ctas() { return ctas_; }

  // Warps and others that have a clock; numbered from 0 here, and in the launch from first_agent.
  static constexpr uint32_t kMaxAgents = 1 << 12;
  uint32_t NewAgent();
  uint32_t first_agent() const { return first_agent_; }
  uint32_t num_agents() const { return num_agents_; }

  AsyncWork async;
  struct Barrier {
    uint64_t phase = 0;
    Knowledge gathered;
    Knowledge released;  // by the phases that are complete
  };
  Barrier barrier;
  int missing_threads() const;  // that run and have not arrived in this phase
  bool finished() const;        // its threads are; copies may be under way

 private:
  Worker* const worker_;
  const uint32_t first_agent_;
  uint32_t num_agents_ = 0;
  std::vector<std::unique_ptr<Cta>> ctas_;  // by rank
};

// Bytes of a CTA's shared memory; `cta` is null when the address has none (reported, launch
// aborted).
struct SharedPlace {
  Cta* cta = nullptr;
  uint32_t at = 0;
};
// What a generic, shared::cta or shared::cluster address means for `lane`. Touching another CTA's
// memory is noted: that CTA must not end before.
SharedPlace ResolveShared(Warp& warp, const Op& op, int lane, uint64_t address, uint32_t size);

// After the last lane of a warp has ended with `op`: what it leaves behind is checked.
void WarpEnds(Warp& warp, const Op& op);

}  // namespace trireme::gpusim
