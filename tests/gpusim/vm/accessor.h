// Who touches memory, and what they have seen of the others; what is wrong with it.
#pragma once

#include <cstdint>
#include <string>

#include "tests/gpusim/vm/clock.h"
#include "tests/gpusim/vm/report.h"

namespace trireme::gpusim {

// Who touches memory, and what they have seen of the others.
struct Accessor {
  uint32_t agent = 0;  // of the cluster
  int lane = 0;
  uint32_t time = 0;        // the agent's
  uint32_t lanes_seen = 0;  // up to when this lane has seen its warp's other lanes
  const Clock* seen = nullptr;
  bool async_proxy = false;       // wgmma and bulk copies
  const Clock* fenced = nullptr;  // of an asynchronous access: what of `seen` its proxy sees, too

  bool HasSeen(uint32_t other, int other_lane, uint32_t other_time) const {
    if (other == agent) return other_lane == lane || other_time <= lanes_seen;
    return seen->Of(other).Covers(other_lane, other_time);
  }
};

// A finding without its place.
struct Fault {
  FindingKind kind;
  std::string what;
};

}  // namespace trireme::gpusim
