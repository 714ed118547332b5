// Copies that cp.async has started and that are not in their destination yet.
#pragma once

#include <array>
#include <cstdint>

#include "tests/gpusim/vm/lanes.h"
#include "tests/gpusim/vm/row.h"

namespace trireme::gpusim {

struct Op;
class Warp;
class WarpAccess;

// Of a lane.
struct PendingCopy {
  uint32_t shared = 0;
  uint64_t global = 0;
  uint32_t size = 0, bytes_read = 0;  // the rest is zero
  uint64_t group = 0;
  bool done = false;
  const Op* op = nullptr;
};
// Of the lanes that fill a row (row.h) of shared memory, 16 bytes each: they are in one
// group and land together.
struct PendingRow {
  static constexpr uint32_t kLanes = 8, kLaneBytes = 16;

  uint32_t shared = 0;
  RowLanes lanes;
  std::array<uint64_t, kLanes> global;
  std::array<uint8_t, kLanes> bytes_read;
  bool reads_row = false;  // it comes from a row, which `from` share out
  RowLanes from;
  uint64_t group = 0;
  bool done = false;
  const Op* op = nullptr;

  LaneMask mask() const { return 0xffu << lanes.first; }
};

// Moves its bytes, unless it has: reads `global`, an access of the warp's.
void Land(Warp& warp, WarpAccess* global, PendingCopy* copy, int lane);
void Land(Warp& warp, WarpAccess* global, PendingRow* copy);
// Row copies of these lanes go on lane by lane.
void SplitRows(Warp& warp, LaneMask lanes);

}  // namespace trireme::gpusim
