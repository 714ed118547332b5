// Order between accesses to global memory within one launch. (Launches of a stream follow one
// another; what overlaps between streams is not checked.)
//
// Agents have numbers of the whole launch here: those of a cluster follow each other. Within its
// own cluster a warp knows the others by its Clock, foreign ones by a SparseClock, which it learns
// through memory: a fence, then an atomic or another strong access on one side, the reverse order
// on the other (PTX ISA, "Memory Consistency Model": release and acquire patterns). What a strong
// write hands over stays with its address.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "tests/gpusim/vm/clock.h"
#include "tests/gpusim/vm/lanes.h"
#include "tests/gpusim/vm/report.h"
#include "tests/gpusim/vm/shadow.h"

namespace trireme::gpusim {

class Warp;

// What is remembered of a word of global memory: its last writer and its last reader. Who came
// before them is forgotten: an error may be missed by that, but none is made up.
struct GlobalCell {
  struct Access {
    uint32_t agent = 0, time = 0;
    uint8_t lane = 0;
    uint8_t bytes = 0;  // of the word; 0: nobody
    bool strong = false;
  };
  uint32_t launch = 0;
  Access writer, reader;
};

struct GlobalAccessor {
  Accessor local;
  uint32_t launch = 0;
  uint32_t first_agent = 0, num_agents = 0;  // of the cluster
  const SparseClock* foreign = nullptr;
  bool strong = false;  // atomic, volatile, relaxed, acquire, release
};

// True if an access of [at, at + size) is not ordered after what `cells` (one a word, from that of
// `at` on) remember; *fault says how. Remembers it.
bool CheckGlobalRead(GlobalCell* cells, uint64_t at, uint32_t size, const GlobalAccessor& who,
                     Fault* fault);
bool CheckGlobalWrite(GlobalCell* cells, uint64_t at, uint32_t size, const GlobalAccessor& who,
                      Fault* fault);

// Of a launch: what strong writes have handed over, by address.
using GlobalReleases = std::unordered_map<uint64_t, SparseClock>;

// Of a warp: what it has put in front of its strong writes by a fence, and what its strong reads
// have brought that a fence has yet to make good.
struct PendingOrder {
  SparseClock released, observed;
};

GlobalAccessor AsGlobalAccessor(const Warp& warp, int lane, bool strong);
// fence, membar by these lanes.
void FenceGlobal(Warp& warp, LaneMask lanes);
// A strong write or read of `address`; `release`, `acquire`: it is a fence itself.
void HandOver(Warp& warp, uint64_t address, LaneMask lanes, bool release);
void TakeOver(Warp& warp, uint64_t address, bool acquire);

}  // namespace trireme::gpusim
