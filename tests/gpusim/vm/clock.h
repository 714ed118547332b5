// Vector clocks of a cluster: who has seen what of whom. (Lamport 1978; Fidge 1988; kept small as
// in FastTrack, Flanagan and Freund 2009.)
//
// An agent is a warp, or an mbarrier standing for the asynchronous copies that complete on it. An
// agent's time is a counter that moves at each of its synchronisations; an access is stamped with
// agent, lane and time. Of each agent a clock knows the time up to which *all* its lanes are seen,
// and perhaps of some lanes a later one: what a single lane releases covers its own accesses, but
// those of its neighbours only up to their last convergence. Where two such facts meet the union is
// kept: an error may be missed by that, but none is made up.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "tests/gpusim/vm/lanes.h"

namespace trireme::gpusim {

struct Seen {
  uint32_t all = 0;
  uint32_t some_time = 0;  // of the lanes `some`
  LaneMask some = 0;

  bool Covers(int lane, uint32_t time) const {
    return time <= all || ((some >> lane & 1) != 0 && time <= some_time);
  }
  void Join(const Seen& other) {
    all = std::max(all, other.all);
    some |= other.some;
    some_time = std::max(some_time, other.some_time);
  }
};

class Clock {
 public:
  const Seen& Of(uint32_t agent) const {
    static constexpr Seen kNothing;
    return agent < seen_.size() ? seen_[agent] : kNothing;
  }
  Seen& Mutable(uint32_t agent) {
    if (agent >= seen_.size()) seen_.resize(agent + 1);
    return seen_[agent];
  }
  void Join(const Clock& other) {
    if (other.seen_.size() > seen_.size()) seen_.resize(other.seen_.size());
    for (size_t i = 0; i < other.seen_.size(); ++i) seen_[i].Join(other.seen_[i]);
  }
  void Clear() { seen_.clear(); }
  bool empty() const { return seen_.empty(); }
  uint32_t size() const { return static_cast<uint32_t>(seen_.size()); }

 private:
  std::vector<Seen> seen_;
};

// The same for agents of which few are known: those of other clusters, by their numbers in the
// launch.
class SparseClock {
 public:
  const Seen& Of(uint32_t agent) const {
    static constexpr Seen kNothing;
    const auto found = seen_.find(agent);
    return found != seen_.end() ? found->second : kNothing;
  }
  Seen& Mutable(uint32_t agent) { return seen_[agent]; }
  void Join(const SparseClock& other) {
    for (const auto& [agent, seen] : other.seen_) seen_[agent].Join(seen);
  }
  template <typename F>
  void ForEach(F&& f) const {
    for (const auto& [agent, seen] : seen_) f(agent, seen);
  }
  void Clear() { seen_.clear(); }
  bool empty() const { return seen_.empty(); }

 private:
  std::map<uint32_t, Seen> seen_;
};

// What travels with a synchronisation: all that was seen, and of it what the async proxy sees, too
// (fence.proxy.async; PTX ISA, "Proxies"): of shared memory, and of global memory. Of other
// clusters, by their numbers in the launch: global_order.h.
struct Knowledge {
  Clock generic;
  Clock async_proxy, async_global;
  SparseClock foreign, async_foreign;

  void Join(const Knowledge& other) {
    generic.Join(other.generic);
    async_proxy.Join(other.async_proxy);
    async_global.Join(other.async_global);
    foreign.Join(other.foreign);
    async_foreign.Join(other.async_foreign);
  }
  void Clear() {
    generic.Clear();
    async_proxy.Clear();
    async_global.Clear();
    foreign.Clear();
    async_foreign.Clear();
  }
};

}  // namespace trireme::gpusim
