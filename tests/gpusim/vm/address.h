// Generic addresses: device memory has the addresses that cudaMalloc gave out; the other state
// spaces are windows that no allocation can touch.
//
// A shared address is 32 bits: the byte within the CTA's shared memory, and above it whose: 0 the
// CTA's own, 1 + rank that of a CTA of the cluster (`mapa`).
#pragma once

#include <cstdint>

namespace trireme::gpusim {

inline constexpr uint64_t kSharedWindow = uint64_t{1} << 60;
inline constexpr uint64_t kLocalWindow = uint64_t{2} << 60;
inline constexpr uint64_t kParamWindow = uint64_t{3} << 60;
inline constexpr uint64_t kWindowMask = uint64_t{15} << 60;

inline constexpr uint32_t kSharedRankShift = 24;
inline constexpr uint32_t kSharedByteMask = (1u << kSharedRankShift) - 1;

}  // namespace trireme::gpusim
