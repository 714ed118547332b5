// The 32 lanes of a warp as bits.
#pragma once

#include <bit>
#include <cstdint>

namespace trireme::gpusim {

using LaneMask = uint32_t;
inline constexpr int kWarpSize = 32;
inline constexpr LaneMask kAllLanes = ~LaneMask{0};

// Calls f(lane) for each lane of the mask, in order.
template <typename F>
void ForEachLane(LaneMask mask, F&& f) {
  if (mask == kAllLanes) {
    for (int lane = 0; lane < kWarpSize; ++lane) f(lane);
    return;
  }
  for (; mask != 0; mask &= mask - 1) f(std::countr_zero(mask));
}

}  // namespace trireme::gpusim
