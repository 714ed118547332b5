// What a launch did, counted.
#pragma once

#include <array>
#include <cstdint>

#include "tests/gpusim/vm/program.h"

namespace trireme::gpusim {

struct Counters {
  // Warp instructions, by class.
  std::array<uint64_t, static_cast<size_t>(OpClass::kCount)> instructions{};
  uint64_t matrix = 0;  // of these, mma, wgmma, tcgen05, ldmatrix and their like
  uint64_t mma = 0, wgmma = 0, tcgen05 = 0;
  // 32-byte sectors that the accesses of a warp touched, and the fewest that could have held the
  // bytes they asked for.
  uint64_t global_sectors = 0, global_sectors_min = 0;
  // Passes over the 32 banks that the accesses took, and the fewest for their bytes.
  uint64_t shared_waves = 0, shared_waves_min = 0;
  uint64_t cp_async_bytes = 0, tma_bytes = 0;

  Counters& operator+=(const Counters& other) {
    for (size_t i = 0; i < instructions.size(); ++i) instructions[i] += other.instructions[i];
    matrix += other.matrix;
    mma += other.mma;
    wgmma += other.wgmma;
    tcgen05 += other.tcgen05;
    global_sectors += other.global_sectors;
    global_sectors_min += other.global_sectors_min;
    shared_waves += other.shared_waves;
    shared_waves_min += other.shared_waves_min;
    cp_async_bytes += other.cp_async_bytes;
    tma_bytes += other.tma_bytes;
    return *this;
  }
  uint64_t total() const {
    uint64_t sum = 0;
    for (const uint64_t n : instructions) sum += n;
    return sum;
  }
};

}  // namespace trireme::gpusim
