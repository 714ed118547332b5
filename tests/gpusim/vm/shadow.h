// What the checkers remember of shared memory: for each word who wrote its bytes, who has read it
// since, what is still being copied there.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/gpusim/vm/clock.h"
#include "tests/gpusim/vm/report.h"

namespace trireme::gpusim {

// Who touches memory, and what they have seen of the others.
struct Accessor {
  uint32_t agent = 0;  // of the cluster
  int lane = 0;
  uint32_t time = 0;        // the agent's
  uint32_t lanes_seen = 0;  // up to when this lane has seen its warp's other lanes
  const Clock* seen = nullptr;
  bool async_proxy = false;       // wgmma and bulk copies
  const Clock* fenced = nullptr;  // of an asynchronous access: what of `seen` its proxy sees, too

  bool HasSeen(uint32_t other, int other_lane, uint32_t other_time) const {
    if (other == agent) return other_lane == lane || other_time <= lanes_seen;
    return seen->Of(other).Covers(other_lane, other_time);
  }
};

// A finding without its place.
struct Fault {
  FindingKind kind;
  std::string what;
};

class SharedShadow {
 public:
  // Forgets everything: a CTA begins.
  void Reset(uint32_t bytes);

  // Each false if the access is in order; else *fault says why not. [at, at + size) is in bounds.
  bool Read(uint32_t at, uint32_t size, const Accessor& who, Fault* fault);
  // The same without remembering the reader: BeginRead and EndRead do.
  bool CheckRead(uint32_t at, uint32_t size, const Accessor& who, Fault* fault);
  bool Write(uint32_t at, uint32_t size, const Accessor& who, Fault* fault);
  // Whether it might be written, as before BeginWrite.
  bool CheckFree(uint32_t at, uint32_t size, const Accessor& who, Fault* fault);
  // A read-modify-write that is ordered with every other one.
  bool Atomic(uint32_t at, uint32_t size, const Accessor& who, Fault* fault);

  // An asynchronous copy into or out of [at, at + size) is under way, or has ended.
  void BeginWrite(uint32_t at, uint32_t size);
  void EndWrite(uint32_t at, uint32_t size, const Accessor& as);
  void BeginRead(uint32_t at, uint32_t size);
  void EndRead(uint32_t at, uint32_t size, const Accessor& as);
  // The word belongs to an mbarrier, which ordinary accesses must not touch.
  void SetMbarrier(uint32_t at, uint32_t size, bool is_mbarrier);

 private:
  static constexpr int kMaxReaders = 3;
  struct Writer {
    uint16_t agent = 0;
    uint8_t lane = 0;
    uint8_t bytes : 4 = 0;  // of the word
    uint8_t atomic : 1 = 0;
    uint8_t async_proxy : 1 = 0;
    uint32_t time = 0;
  };
  struct Reader {
    uint32_t time = 0;
    LaneMask lanes = 0;
    uint16_t agent = 0;
  };
  struct Cell {
    uint32_t generation = 0;
    uint8_t defined = 0;  // bytes
    uint8_t num_writers = 0, num_readers = 0;
    bool mbarrier = false;  // counts as a write in flight, too
    uint16_t writes_in_flight = 0, reads_in_flight = 0;
    std::array<Writer, 4> writers;
    std::array<Reader, kMaxReaders> readers;
  };

  Cell& At(uint32_t word) {
    Cell& cell = cells_[word];
    if (cell.generation != generation_) {
      cell = Cell();
      cell.generation = generation_;
    }
    return cell;
  }
  static bool Ordered(const Writer& writer, const Accessor& who);
  static bool Ordered(const Reader& reader, const Accessor& who);
  static void NoteReader(Cell* cell, const Accessor& who);
  static void NoteWriter(Cell* cell, uint8_t bytes, const Accessor& who, bool atomic);
  static bool CheckReadable(const Cell& cell, uint32_t word, uint8_t bytes, const Accessor& who,
                            Fault* fault);
  static bool CheckWritable(const Cell& cell, uint32_t word, uint8_t bytes, const Accessor& who,
                            bool atomic, Fault* fault);
  static bool Fenced(const Writer& writer, const Accessor& who);
  template <typename F>
  bool EachWord(uint32_t at, uint32_t size, F&& f);

  std::vector<Cell> cells_;
  uint32_t generation_ = 0;
};

}  // namespace trireme::gpusim
