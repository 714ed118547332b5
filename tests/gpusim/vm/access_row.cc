// Accesses of whole rows (row.h): what their lanes do is checked at once.
#include <array>
#include <cstring>

#include "tests/gpusim/vm/access.h"
#include "tests/gpusim/vm/address.h"

namespace trireme::gpusim {
namespace {

bool AllOnes(const std::byte* defined) {
  static const auto kOnes = [] {
    std::array<std::byte, kRowBytes> ones;
    ones.fill(std::byte{1});
    return ones;
  }();
  return std::memcmp(defined, kOnes.data(), kRowBytes) == 0;
}

// With the number of lanes known, the loop is vector code.
template <uint32_t kLanes>
bool ShareOut(const uint64_t* addresses, RowLanes* lanes) {
  constexpr uint64_t kBytes = kRowBytes / kLanes;
  const uint64_t row = addresses[0] & ~uint64_t{kRowBytes - 1};
  const uint64_t swizzle = (addresses[0] - row) / kBytes;
  uint64_t differs = 0;
  for (uint64_t i = 0; i < kLanes; ++i) differs |= addresses[i] ^ (row + (i ^ swizzle) * kBytes);
  lanes->words = static_cast<uint8_t>(kBytes / 4);
  lanes->swizzle = static_cast<uint8_t>(swizzle);
  return differs == 0;
}

}  // namespace

bool RowOf(const std::array<uint64_t, kWarpSize>& addresses, LaneMask active, uint32_t bytes,
           int first, RowLanes* lanes) {
  const uint64_t* const of_lane = addresses.data() + first;
  lanes->first = static_cast<uint8_t>(first);
  if (bytes == 4) return active == kAllLanes && ShareOut<32>(of_lane, lanes);
  if (bytes == 8) return (active >> first & 0xffff) == 0xffff && ShareOut<16>(of_lane, lanes);
  return (active >> first & 0xff) == 0xff && ShareOut<8>(of_lane, lanes);
}

template <AccessMode mode>
std::byte* WarpAccess::TouchRow(uint64_t address, RowLanes lanes) {
  constexpr bool kReads = mode == AccessMode::kRead;
  Become(lanes.first);
  if (space_ == MemorySpace::kShared) {
    if (address + kRowBytes > shared_bytes_) return nullptr;
    const auto at = static_cast<uint32_t>(address);
    const bool in_order = kReads ? cta_->shadow.TryReadRow(at, lanes, who_.local)
                                 : cta_->shadow.TryWriteRow(at, lanes, who_.local);
    return in_order ? cta_->shared(at) : nullptr;
  }
  const bool global = space_ == MemorySpace::kGlobal ||
                      (space_ == MemorySpace::kGeneric && (address & kWindowMask) == 0);
  if (!global) return nullptr;
  if (!region_.Holds(address, kRowBytes)) {
    const Region region = warp_.grid().memory().RegionOf(address, kRowBytes);
    if (region.end == 0) return nullptr;
    region_ = region;
  }
  lock_.Hold(address);
  std::byte* const defined = region_.defined + (address - region_.start);
  if (kReads && !region_.always_defined && !AllOnes(defined)) return nullptr;
  who_.strong = false;
  if (!(kReads ? ReadRow(region_.cells, address, lanes, who_)
               : WriteRow(region_.cells, address, lanes, who_))) {
    return nullptr;
  }
  if (!kReads) std::memset(defined, 1, kRowBytes);
  return region_.bytes + (address - region_.start);
}

template std::byte* WarpAccess::TouchRow<AccessMode::kRead>(uint64_t, RowLanes);
template std::byte* WarpAccess::TouchRow<AccessMode::kWrite>(uint64_t, RowLanes);

}  // namespace trireme::gpusim
