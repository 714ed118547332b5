// Accesses of whole rows (row.h): what a warp's lanes do side by side is checked at once.
#include <algorithm>
#include <cstring>

#include "tests/gpusim/vm/access.h"
#include "tests/gpusim/vm/address.h"

namespace trireme::gpusim {
namespace {

constexpr uint32_t kMaxBytes = 16;  // of a lane

bool AllOnes(const std::byte* defined, uint32_t bytes) {
  static const auto kOnes = [] {
    std::array<std::byte, kMaxBytes * kWarpSize> ones;
    ones.fill(std::byte{1});
    return ones;
  }();
  return std::memcmp(defined, kOnes.data(), bytes) == 0;
}

// Calls f(address of a row, its lanes) until one says false.
template <typename F>
bool EachRow(uint64_t address, uint32_t size, F&& f) {
  const auto words = static_cast<uint8_t>(size / 4);
  const uint32_t lanes = kRowBytes / size;
  for (uint32_t first = 0; first < kWarpSize; first += lanes) {
    if (!f(address + first * size, RowLanes{static_cast<uint8_t>(first), words})) return false;
  }
  return true;
}

}  // namespace

bool WarpAccess::AllLanesHaveSeenTheSame() const {
  uint32_t differs = 0;
  for (int lane = 1; lane < kWarpSize; ++lane) {
    differs |= warp_.lanes_seen(lane) ^ warp_.lanes_seen(0);
  }
  return differs == 0;
}

template <AccessMode mode>
std::byte* WarpAccess::TouchRow(uint64_t address) {
  constexpr bool kReads = mode == AccessMode::kRead;
  if (size_ < 4 || size_ > kMaxBytes || address % kRowBytes != 0) return nullptr;
  const uint32_t bytes = size_ * kWarpSize;
  if (!AllLanesHaveSeenTheSame()) return nullptr;
  Become(0);
  if (space_ == MemorySpace::kShared) {
    if (address + bytes > shared_bytes_) return nullptr;
    SharedShadow& shadow = cta_->shadow;
    const bool in_order = EachRow(address, size_, [&](uint64_t row, RowLanes lanes) {
      const auto at = static_cast<uint32_t>(row);
      return kReads ? shadow.TryReadRow(at, lanes, who_.local)
                    : shadow.TryWriteRow(at, lanes, who_.local);
    });
    return in_order ? cta_->shared(static_cast<uint32_t>(address)) : nullptr;
  }
  const bool global = space_ == MemorySpace::kGlobal ||
                      (space_ == MemorySpace::kGeneric && (address & kWindowMask) == 0);
  constexpr uint64_t kPlace = MemoryLock::kPlaceBytes;
  if (!global || address / kPlace != (address + bytes - 1) / kPlace) return nullptr;
  const Region region = warp_.grid().memory().RegionOf(address, bytes);
  if (region.end == 0) return nullptr;
  region_ = region;
  lock_.Hold(address);
  std::byte* const defined = region.defined + (address - region.start);
  if (kReads && !region.always_defined && !AllOnes(defined, bytes)) return nullptr;
  who_.strong = false;
  const bool in_order = EachRow(address, size_, [&](uint64_t row, RowLanes lanes) {
    return kReads ? ReadRow(region.cells, row, lanes, who_)
                  : WriteRow(region.cells, row, lanes, who_);
  });
  if (!in_order) return nullptr;
  if (!kReads) std::memset(defined, 1, bytes);
  return region.bytes + (address - region.start);
}

template std::byte* WarpAccess::TouchRow<AccessMode::kRead>(uint64_t);
template std::byte* WarpAccess::TouchRow<AccessMode::kWrite>(uint64_t);

}  // namespace trireme::gpusim
