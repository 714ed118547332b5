#include "tests/gpusim/vm/pending_copy.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/gpusim/vm/access.h"
#include "tests/gpusim/vm/grid.h"

namespace trireme::gpusim {
namespace {

PendingCopy CopyOf(const PendingRow& row, uint32_t i) {
  PendingCopy copy;
  copy.shared = row.shared + (i ^ row.lanes.swizzle) * PendingRow::kLaneBytes;
  copy.global = row.global[i];
  copy.size = PendingRow::kLaneBytes;
  copy.bytes_read = row.bytes_read[i];
  copy.group = row.group;
  copy.done = row.done;
  copy.op = row.op;
  return copy;
}

}  // namespace

void Land(Warp& warp, WarpAccess* global, PendingCopy* copy, int lane) {
  if (copy->done) return;
  copy->done = true;
  std::byte* to = warp.cta().shared(copy->shared);
  if (copy->bytes_read > 0) {
    global->Become(*copy->op, copy->bytes_read);
    const std::byte* from = global->Touch<AccessMode::kRead>(lane, copy->global);
    if (from == nullptr) return;
    std::memcpy(to, from, copy->bytes_read);
  }
  std::memset(to + copy->bytes_read, 0, copy->size - copy->bytes_read);
}

void Land(Warp& warp, WarpAccess* global, PendingRow* copy) {
  constexpr uint32_t kBytes = PendingRow::kLaneBytes;
  if (copy->done) return;
  copy->done = true;
  std::byte* const to = warp.cta().shared(copy->shared);
  global->Become(*copy->op, kBytes);
  if (copy->reads_row && global->LanesHaveSeenTheSame()) {
    const std::byte* const row =
        global->TouchRow<AccessMode::kRead>(copy->global[0] & ~uint64_t{kRowBytes - 1}, copy->from);
    if (row != nullptr) {
      for (uint32_t i = 0; i < PendingRow::kLanes; ++i) {
        std::memcpy(to + (i ^ copy->lanes.swizzle) * kBytes,
                    row + (i ^ copy->from.swizzle) * kBytes, kBytes);
      }
      return;
    }
  }
  for (uint32_t i = 0; i < PendingRow::kLanes; ++i) {
    PendingCopy lane = CopyOf(*copy, i);
    lane.done = false;
    Land(warp, global, &lane, copy->lanes.first + static_cast<int>(i));
  }
}

void SplitRows(Warp& warp, LaneMask lanes) {
  std::erase_if(warp.row_copies, [&](const PendingRow& row) {
    if ((row.mask() & lanes) == 0) return false;
    for (uint32_t i = 0; i < PendingRow::kLanes; ++i) {
      auto& copies = warp.copies[row.lanes.first + i];
      const auto behind = std::find_if(copies.begin(), copies.end(), [&](const PendingCopy& copy) {
        return copy.group > row.group;
      });
      copies.insert(behind, CopyOf(row, i));
    }
    return true;
  });
}

}  // namespace trireme::gpusim
