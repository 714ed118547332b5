// Tensor memory of a CTA: 128 lanes (rows) of 512 columns of 4 bytes, where tcgen05 keeps its sums,
// scale factors and, if wanted, A (PTX ISA, "Tensor Memory").
//
// An address holds the lane in its upper half and the column in its lower. Checked in units of 16
// lanes of a column, as no access is finer. Order is checked by clocks like any memory's, with two
// rules more: what a thread did by tcgen05.ld and .st others may know of only behind its
// tcgen05.wait and a fence::before_thread_sync, and what a thread learns at a barrier holds for its
// tcgen05 operations only behind a fence::after_thread_sync ("tcgen05 Memory Consistency Model").
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/gpusim/vm/clock.h"
#include "tests/gpusim/vm/lanes.h"
#include "tests/gpusim/vm/mbarrier.h"
#include "tests/gpusim/vm/shadow.h"

namespace trireme::gpusim {

// Who touches tensor memory.
struct TensorAccessor {
  Stamp as;                       // what it leaves behind
  Stamp plain;                    // the thread itself, of a synchronous access
  uint32_t warp_agent = 0;        // of the ld and st of its own warp: it has waited for these
  uint32_t issue_agent = 0;       // of what its own warp has issued
  const Clock* seen = nullptr;    // by the thread
  const Clock* fenced = nullptr;  // of that, what its tcgen05 operations come after
};

// Columns [column, column + columns) of the lanes [lane, lane + lanes).
struct TensorPlace {
  int lane = 0, lanes = 0, column = 0, columns = 0;
};

class TensorMemory {
 public:
  static constexpr int kLanes = 128, kColumns = 512;

  // ---- Columns are given out in powers of two from 32.
  // The first column; -1: there are not as many free.
  int Allocate(int columns);
  // False: these are not what one Allocate gave.
  bool Free(int column, int columns);
  int allocated() const;
  bool gave_up_permit = false;  // relinquish_alloc_permit

  uint32_t& At(int lane, int column) {
    return cells_[static_cast<size_t>(lane * kColumns + column)];
  }
  // False: outside, or not allocated.
  bool Holds(const TensorPlace& place) const;

  // ---- Each false if the access is in order; else *fault says why not. `place` is held.
  bool Read(const TensorPlace& place, const TensorAccessor& who, Fault* fault);
  bool Write(const TensorPlace& place, const TensorAccessor& who, Fault* fault);
  // The same checks for an access that has no end yet; `Begin` and `End` mark it.
  bool CheckRead(const TensorPlace& place, const TensorAccessor& who, Fault* fault) const;
  bool CheckWrite(const TensorPlace& place, const TensorAccessor& who, Fault* fault) const;
  void Begin(const TensorPlace& place, bool writes);
  void End(const TensorPlace& place, bool writes, const TensorAccessor& who);

 private:
  static constexpr int kUnitLanes = 16;
  struct Access {
    Stamp as, plain;
  };
  struct Unit {
    bool defined = false;
    uint16_t reads_in_flight = 0, writes_in_flight = 0;
    Access writer;
    std::array<Access, 2> readers;  // of different agents; the oldest is forgotten
  };
  const Unit& UnitAt(int lane, int column) const {
    return units_[static_cast<size_t>(lane / kUnitLanes * kColumns + column)];
  }
  template <typename F>
  void EachUnit(const TensorPlace& place, F&& f);
  template <typename F>
  bool AnyUnit(const TensorPlace& place, F&& f) const;
  static bool Disordered(const Access& before, const TensorAccessor& who, const char* what,
                         Fault* fault);
  static void NoteReader(Unit* unit, const TensorAccessor& who);
  static void NoteWriter(Unit* unit, const TensorAccessor& who);

  std::vector<uint32_t> cells_;
  std::vector<Unit> units_;
  std::array<int, kColumns / 32> owner_{};  // of 32 columns: 1 + the first of its allocation; 0
};

}  // namespace trireme::gpusim
