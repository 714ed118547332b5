// Accesses to memory, lane by lane: resolved, checked, counted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/gpusim/vm/decoder.h"
#include "tests/gpusim/vm/grid.h"

namespace trireme::gpusim {

enum class MemorySpace : uint8_t { kGeneric, kGlobal, kShared, kLocal, kParam, kConst };
// Strong: volatile, relaxed, acquire, release (PTX ISA, "Memory Consistency Model").
enum class AccessMode : uint8_t { kRead, kWrite, kAtomic, kStrongRead, kStrongWrite };

// The state space that an opcode names.
MemorySpace SpaceOf(const ptx::Instruction& instruction);

// How a load, a store or an atomic orders: of its opcode, packed into op.imm with its space.
struct Ordering {
  MemorySpace space = MemorySpace::kGeneric;
  bool strong = false, acquire = false, release = false;

  static Ordering Of(const ptx::Instruction& instruction);
  uint64_t Pack() const;
  static Ordering Unpack(uint64_t bits);
};

// The accesses of one warp instruction, `size` bytes a lane. While it lives the device memory that
// its last access lies in is locked.
class WarpAccess {
 public:
  WarpAccess(Warp& warp, const Op& op, uint32_t size, MemorySpace space);

  // The bytes of an access by `lane`. A fault is reported; null when there is nothing to touch: the
  // launch is aborted then.
  template <AccessMode mode>
  [[gnu::always_inline]] std::byte* Touch(int lane, uint64_t address) {
    const bool aligned = (address & (size_ - 1)) == 0;
    if (space_ == MemorySpace::kShared && aligned && address + size_ <= shared_bytes_) {
      Become(lane);
      const auto at = static_cast<uint32_t>(address);
      const Accessor& who = who_.local;
      if (Reads(mode) ? cta_->shadow.TryRead(at, size_, who)
                      : mode != AccessMode::kAtomic && cta_->shadow.TryWrite(at, size_, who))
          [[likely]] {
        return cta_->shared(at);
      }
    } else if (aligned && region_.Holds(address, size_)) {
      Become(lane);
      lock_.Hold(address);
      if (TryGlobal<mode>(address)) [[likely]]
        return region_.bytes + (address - region_.start);
    }
    return TouchElsewhere<mode>(lane, address);
  }
  // The bytes of the row that begins at `address`, of weak accesses by these lanes (RowOf), when
  // they are in order. Null: Touch() each lane, which also tells what is wrong.
  template <AccessMode mode>
  std::byte* TouchRow(uint64_t address, RowLanes lanes);
  // Without that there are no rows.
  bool LanesHaveSeenTheSame() const {
    uint32_t differs = 0;
    for (int lane = 1; lane < kWarpSize; ++lane) {
      differs |= warp_.lanes_seen(lane) ^ warp_.lanes_seen(0);
    }
    return differs == 0;
  }
  // From here on it is on behalf of another instruction of the warp.
  void Become(const Op& op, uint32_t size) {
    op_ = &op;
    size_ = size;
  }
  // For what has to be one step with an access to global memory that follows.
  void Hold(uint64_t address) { lock_.Hold(address); }

 private:
  static constexpr bool Reads(AccessMode mode) {
    return mode == AccessMode::kRead || mode == AccessMode::kStrongRead;
  }
  void Become(int lane) {
    who_.local.lane = lane;
    who_.local.lanes_seen = warp_.lanes_seen(lane);
  }
  template <AccessMode mode>
  [[gnu::always_inline]] bool TryGlobal(uint64_t address);
  template <AccessMode mode>
  std::byte* Shared(Cta& cta, uint32_t at);
  template <AccessMode mode>
  std::byte* Global(uint64_t address);
  template <AccessMode mode>
  std::byte* TouchElsewhere(int lane, uint64_t address);
  std::byte* Beyond(int lane, std::string what);

  Warp& warp_;
  const Op* op_;
  uint32_t size_;
  const MemorySpace space_;
  Cta* const cta_;
  const uint64_t shared_bytes_;
  GlobalAccessor who_;
  Region region_;
  MemoryLock lock_;
};

// The commonest: words or 16 bytes of region_, in order. False: Global() takes a closer look.
template <AccessMode mode>
inline bool WarpAccess::TryGlobal(uint64_t address) {
  constexpr bool kReads = Reads(mode),
                 kIsDefined = mode == AccessMode::kWrite || mode == AccessMode::kStrongWrite;
  who_.strong = mode != AccessMode::kRead && mode != AccessMode::kWrite;
  const GlobalCells& cells = region_.cells;
  if constexpr (mode == AccessMode::kAtomic || mode == AccessMode::kStrongWrite) {
    Release(cells, address, who_);
  }
  std::byte* const defined = region_.defined + (address - region_.start);
  constexpr uint64_t kOnes = 0x0101010101010101u;
  if (size_ == GlobalBlock::kBytes) {
    uint64_t known[2];
    std::memcpy(known, defined, 16);
    if (!kIsDefined && !region_.always_defined && (known[0] & known[1]) != kOnes) return false;
    GlobalBlock* const block = BlockOf(cells, address, who_);
    if (block == nullptr || !(kReads ? ReadBlock(block, who_) : WriteBlock(block, who_)))
      return false;
    if (!kReads) std::memset(defined, 1, 16);
    return true;
  }
  if (size_ == 4) {
    uint32_t known;
    std::memcpy(&known, defined, 4);
    if (!kIsDefined && !region_.always_defined && known != static_cast<uint32_t>(kOnes)) {
      return false;
    }
    if (!(kReads ? ReadWord(cells, address, who_) : WriteWord(cells, address, who_))) return false;
    if (!kReads) std::memset(defined, 1, 4);
    return true;
  }
  return false;
}

// Whether the lanes from `first` on, as many as have a row's bytes between them, share out a row;
// then *lanes says how. `bytes`: of a lane, 4, 8 or 16.
bool RowOf(const std::array<uint64_t, kWarpSize>& addresses, LaneMask active, uint32_t bytes,
           int first, RowLanes* lanes);
// Calls touch_row(lanes, bytes) for whole rows, and one_lane(lane) for all other lanes.
template <AccessMode mode, typename F, typename G>
void EachRowOrLane(WarpAccess& access, const std::array<uint64_t, kWarpSize>& addresses,
                   LaneMask active, uint32_t bytes, F&& touch_row, G&& one_lane) {
  if (bytes < 4 || bytes > 16 || !access.LanesHaveSeenTheSame()) {
    return ForEachLane(active, one_lane);
  }
  const int at_once = static_cast<int>(kRowBytes / bytes);
  for (int first = 0; first < kWarpSize; first += at_once) {
    const LaneMask group =
        at_once == kWarpSize ? kAllLanes : ((LaneMask{1} << at_once) - 1) << first;
    RowLanes lanes;
    if (RowOf(addresses, active, bytes, first, &lanes)) {
      const uint64_t address = addresses[static_cast<size_t>(first)] & ~uint64_t{kRowBytes - 1};
      if (std::byte* const row = access.TouchRow<mode>(address, lanes)) {
        touch_row(lanes, row);
        continue;
      }
    }
    ForEachLane(active & group, one_lane);
  }
}

// Passes over the 32 banks of shared memory that the lanes' accesses of `bytes` each take: lanes
// that want the same word share it; 8- and 16-byte accesses go by half and quarter warps.
int SharedWaves(const std::array<uint64_t, kWarpSize>& addresses, LaneMask active, uint32_t bytes);
// Adds an access to the counters.
void CountShared(Warp& warp, const std::array<uint64_t, kWarpSize>& addresses, LaneMask active,
                 uint32_t bytes);
void CountGlobal(Warp& warp, const std::array<uint64_t, kWarpSize>& addresses, LaneMask active,
                 uint32_t bytes);

}  // namespace trireme::gpusim
