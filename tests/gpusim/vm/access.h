// One lane's access to memory: resolved, checked, counted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

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

// The bytes of an access by `lane`. A fault is reported; null when there is nothing to touch: the
// launch is aborted then.
std::byte* Touch(Warp& warp, const Op& op, int lane, uint64_t address, uint32_t size,
                 MemorySpace space, AccessMode mode);

// Passes over the 32 banks of shared memory that the lanes' accesses of `bytes` each take: lanes
// that want the same word share it; 8- and 16-byte accesses go by half and quarter warps.
int SharedWaves(const std::array<uint64_t, kWarpSize>& addresses, LaneMask active, uint32_t bytes);
// Adds an access to the counters.
void CountShared(Warp& warp, const std::array<uint64_t, kWarpSize>& addresses, LaneMask active,
                 uint32_t bytes);
void CountGlobal(Warp& warp, const std::array<uint64_t, kWarpSize>& addresses, LaneMask active,
                 uint32_t bytes);

}  // namespace trireme::gpusim
