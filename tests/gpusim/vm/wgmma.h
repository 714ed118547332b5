// wgmma: matrix multiplications that four warps start together and that run on by themselves (PTX
// ISA, "Asynchronous Warpgroup Level Matrix Instructions").
//
// An operation is complete when one of the warps has waited for its group and all four have started
// it. Until then its operands in shared memory are being read, and the registers of accumulator and
// A may not be touched. The reads are those of an agent of the warpgroup's own, whose time is the
// number of operations complete: who waited has seen them.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "tests/gpusim/vm/program.h"

namespace trireme::gpusim {

struct WgmmaForm;

// One operation, as the first of its warps has started it.
struct Wgmma {
  const Op* op = nullptr;
  uint64_t a = 0, b = 0;    // descriptors; a: unused with A in registers
  LaneMask started_by = 0;  // warps of the group, as bits
  bool accumulates = false;
  bool computed = false;
  std::vector<uint32_t> chunks;  // of shared memory that are being read
};

class Warpgroup {
 public:
  explicit Warpgroup(uint32_t agent) : agent(agent) {}

  const uint32_t agent;
  uint64_t completed = 0;  // operations; pending[0] is the next
  std::deque<Wgmma> pending;
  struct Member {
    uint64_t started = 0;              // operations
    std::vector<uint64_t> group_ends;  // of its committed groups: operations started by then
    uint64_t released = 0;             // operations it has waited for
    std::deque<const Op*> unclaimed;   // complete, and not waited for by this warp
  };
  std::array<Member, 4> members;
};

// Of one warp: what its registers have to do with wgmma, by slot.
struct WgmmaRegisters {
  struct State {
    uint16_t accumulating = 0, feeding = 0;  // operations in flight
    const WgmmaForm* form = nullptr;         // of those that accumulate there
    bool unfenced = true;                    // touched since the last wgmma.fence
  };
  std::vector<State> of;
};

bool WgmmaInFlight(Warp& warp);

// Makes the other operations on registers of wgmma check that these are free, and remember that
// they were touched.
void WatchWgmmaRegisters(Program* program);

}  // namespace trireme::gpusim
