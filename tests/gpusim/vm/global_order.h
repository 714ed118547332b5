// Order between accesses to global memory within one launch. What other launches did there is
// stream_order.h's.
//
// Agents have numbers of the whole launch here: those of a cluster follow each other. Within its
// own cluster a warp knows the others by its Clock, foreign ones by a SparseClock, which it learns
// through memory: a fence, then an atomic or another strong access on one side, the reverse order
// on the other (PTX ISA, "Memory Consistency Model": release and acquire patterns). What a strong
// write hands over stays with its address.
//
// A bulk copy knows what its lane knew when it started it, and sees generic writes only behind a
// fence.proxy.async that covers global memory. It reads as the mbarrier on which it completes, and
// writes as an agent of the warp that started it: who has waited (for the phase; wait_group, not
// .read) has seen it.
#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "tests/gpusim/vm/clock.h"
#include "tests/gpusim/vm/device_memory.h"
#include "tests/gpusim/vm/lanes.h"
#include "tests/gpusim/vm/report.h"
#include "tests/gpusim/vm/row.h"
#include "tests/gpusim/vm/shadow.h"
#include "tests/gpusim/vm/stream_order.h"

namespace trireme::gpusim {

class Warp;

// What is remembered of global memory: the last writer and the last reader of each byte of a word.
// Who came before them is forgotten: an error may be missed by that, but none is made up.
struct GlobalAccess {
  uint32_t agent = 0, time = 0;
  uint8_t lane = 0;
  uint8_t bytes = 0;  // of the word; 0: nobody
  bool strong = false;
  bool async_proxy = false;  // a bulk copy
};
struct GlobalWord {
  GlobalAccess writer, reader;
};
enum class RowState : uint8_t {
  kOpen,       // its blocks count
  kWhole,      // all that the launch did were weak accesses of whole rows (row.h): the row counts
  kContested,  // kOpen, and accesses are to be ordered after other operations' (stream_order.h)
};
// 128 bytes.
struct GlobalRowAccess {
  uint32_t agent = 0, time = 0;
  RowLanes lanes;
  bool there = false;
};
struct GlobalRow {
  uint32_t launch = 0;  // of another one: nobody has been there
  RowState state = RowState::kOpen;
  GlobalRowAccess writer, reader;
};
// 16 bytes. As long as whole blocks are written and read its four words are the same.
struct GlobalBlock {
  static constexpr uint32_t kBytes = 16, kWords = 4;

  uint32_t launch = 0;    // of another one: nobody has been there
  bool by_words = false;  // its GlobalWords count, not these
  GlobalAccess writer, reader;
};

struct GlobalAccessor {
  Accessor local;
  uint32_t launch = 0;
  uint32_t first_agent = 0, num_agents = 0;  // of the cluster
  const SparseClock* foreign = nullptr;
  bool strong = false;                   // atomic, volatile, relaxed, acquire, release
  StreamOperation* operation = nullptr;  // the launch as one of a stream
  const Knowledge* copy = nullptr;       // of a bulk copy: what its lane knew when it started it

  GlobalAccess As(uint8_t bytes) const {
    return {first_agent + local.agent,
            local.time,
            static_cast<uint8_t>(local.lane),
            bytes,
            strong,
            copy != nullptr};
  }
  // Whether what this one does is ordered after that.
  bool Follows(const GlobalAccess& access) const {
    const uint32_t other = access.agent - first_agent;
    if (other >= num_agents) return foreign->Of(access.agent).Covers(access.lane, access.time);
    // Copies that one lane starts are not ordered by that.
    if (copy != nullptr) return copy->generic.Of(other).Covers(access.lane, access.time);
    return local.HasSeen(other, access.lane, access.time);
  }
  // The same of a row, for all lanes.
  bool FollowsRow(const GlobalRowAccess& access, RowLanes lanes) const {
    if (!access.there) return true;
    const uint32_t other = access.agent - first_agent;
    if (other >= num_agents) return access.time <= foreign->Of(access.agent).all;
    if (other != local.agent) return access.time <= local.seen->Of(other).all;
    return access.time <= local.lanes_seen || access.lanes == lanes;
  }
  // Whether two accesses that share bytes have to be ordered, and are not.
  bool RacesWith(const GlobalAccess& before, uint8_t bytes) const {
    return (before.bytes & bytes) != 0 && !(before.strong && strong) && !Follows(before);
  }
  // Whether this is a copy, and a generic write of bytes that it shares is not fenced for it.
  bool IsUnfenced(const GlobalAccess& before, uint8_t bytes) const {
    if (copy == nullptr || (before.bytes & bytes) == 0 || before.async_proxy) return false;
    if (before.strong && strong) return false;
    const uint32_t other = before.agent - first_agent;
    const Seen& fenced =
        other >= num_agents ? copy->async_foreign.Of(before.agent) : copy->async_global.Of(other);
    return !fenced.Covers(before.lane, before.time);
  }
};

// From now on a row's blocks count. False: it is contested.
bool OpenRow(const GlobalCells& cells, uint64_t row, const GlobalAccessor& who);
// The block of an address. Null: its row is contested.
inline GlobalBlock* BlockOf(const GlobalCells& cells, uint64_t address, const GlobalAccessor& who) {
  const uint64_t at = address - cells.start;
  const GlobalRow& row = cells.rows[at / kRowBytes];
  if (row.launch != who.launch || row.state != RowState::kOpen) [[unlikely]] {
    if (!OpenRow(cells, at / kRowBytes, who)) return nullptr;
  }
  return cells.blocks + at / GlobalBlock::kBytes;
}
// Who knows of a strong write knows its launch.
inline void Release(const GlobalCells& cells, uint64_t address, const GlobalAccessor& who) {
  if (cells.stamps[(address - cells.start) / kRowBytes].releaser != who.launch) {
    ReleaseRow(cells, address, who);
  }
}

// A weak access of a row by all its lanes. True: in order. False: it takes a closer look, lane by
// lane.
inline bool ReadRow(const GlobalCells& cells, uint64_t address, RowLanes lanes,
                    const GlobalAccessor& who) {
  const uint64_t index = (address - cells.start) / kRowBytes;
  GlobalRow& row = cells.rows[index];
  if (row.launch != who.launch) {
    if (!EnterRow(cells, index, who)) return false;
    row = {who.launch, RowState::kWhole, {}, {}};
  } else if (row.state != RowState::kWhole || !who.FollowsRow(row.writer, lanes)) {
    return false;
  }
  row.reader = {who.first_agent + who.local.agent, who.local.time, lanes, true};
  return true;
}
// Of a row whose blocks count: each has to let this write pass.
bool WriteOpenRow(const GlobalCells& cells, uint64_t address, RowLanes lanes,
                  const GlobalAccessor& who);
inline bool WriteRow(const GlobalCells& cells, uint64_t address, RowLanes lanes,
                     const GlobalAccessor& who) {
  const uint64_t index = (address - cells.start) / kRowBytes;
  GlobalRow& row = cells.rows[index];
  if (row.launch != who.launch) {
    if (!EnterRow(cells, index, who)) return false;
  } else {
    if (row.state == RowState::kContested) return false;
    if (row.state == RowState::kOpen) {
      if (!WriteOpenRow(cells, address, lanes, who)) return false;
    } else if (!who.FollowsRow(row.writer, lanes) || !who.FollowsRow(row.reader, lanes)) {
      return false;
    }
  }
  const GlobalRowAccess me = {who.first_agent + who.local.agent, who.local.time, lanes, true};
  row = {who.launch, RowState::kWhole, me, {}};
  return true;
}

// The commonest: all of a block that is not kept by words. False: it takes a closer look.
inline bool ReadBlock(GlobalBlock* block, const GlobalAccessor& who) {
  if (block->launch != who.launch) {
    *block = {who.launch, false, {}, who.As(15)};
    return true;
  }
  if (block->by_words || who.RacesWith(block->writer, 15)) return false;
  block->reader = who.As(15);
  return true;
}
inline bool WriteBlock(GlobalBlock* block, const GlobalAccessor& who) {
  if (block->launch == who.launch &&
      (block->by_words || who.RacesWith(block->writer, 15) || who.RacesWith(block->reader, 15))) {
    return false;
  }
  *block = {who.launch, false, who.As(15), {}};
  return true;
}

// The same for a word of a block that is kept by words.
inline bool ReadWord(const GlobalCells& cells, uint64_t address, const GlobalAccessor& who) {
  const GlobalBlock* const block = BlockOf(cells, address, who);
  GlobalWord& word = cells.words[(address - cells.start) / 4];
  if (block == nullptr || block->launch != who.launch || !block->by_words ||
      who.RacesWith(word.writer, 15))
    return false;
  word.reader = who.As(15);
  return true;
}
inline bool WriteWord(const GlobalCells& cells, uint64_t address, const GlobalAccessor& who) {
  const GlobalBlock* const block = BlockOf(cells, address, who);
  GlobalWord& word = cells.words[(address - cells.start) / 4];
  if (block == nullptr || block->launch != who.launch || !block->by_words ||
      who.RacesWith(word.writer, 15) || who.RacesWith(word.reader, 15)) {
    return false;
  }
  word = {who.As(15), {}};
  return true;
}

// True if an access of [address, address + size) is not ordered after what is remembered; *fault
// says how. Remembers it.
bool CheckGlobalRead(const GlobalCells& cells, uint64_t address, uint32_t size,
                     const GlobalAccessor& who, Fault* fault);
bool CheckGlobalWrite(const GlobalCells& cells, uint64_t address, uint32_t size,
                      const GlobalAccessor& who, Fault* fault);

// A warp's Knowledge, all of it by agents' numbers in the launch.
struct GlobalKnowledge {
  SparseClock seen;
  SparseClock fenced;  // of it, what the async proxy sees, too

  void Join(const GlobalKnowledge& other) {
    seen.Join(other.seen);
    fenced.Join(other.fenced);
  }
  void Clear() {
    seen.Clear();
    fenced.Clear();
  }
};

// Of a launch: what strong writes have handed over, by address. Thread-safe.
class GlobalReleases {
 public:
  void Add(uint64_t address, const GlobalKnowledge& what);
  void Take(uint64_t address, GlobalKnowledge* into) const;

 private:
  mutable std::mutex mu_;
  std::unordered_map<uint64_t, GlobalKnowledge> by_address_;
};

// Of a warp: what it has put in front of its strong writes by a fence, and what its strong reads
// have brought that a fence has yet to make good.
struct PendingOrder {
  GlobalKnowledge released, observed;
};

GlobalAccessor AsGlobalAccessor(const Warp& warp, int lane, bool strong);
// A bulk copy that `warp` has started, as an agent of its cluster.
GlobalAccessor AsCopy(const Warp& warp, const Knowledge& known, uint32_t agent, int lane,
                      uint32_t time, bool strong);
// fence, membar by these lanes.
void FenceGlobal(Warp& warp, LaneMask lanes);
// A strong write or read of `address`, whose MemoryLock is held from here to the access itself;
// `release`, `acquire`: it is a fence itself.
void HandOver(Warp& warp, uint64_t address, LaneMask lanes, bool release);
void TakeOver(Warp& warp, uint64_t address, bool acquire);

}  // namespace trireme::gpusim
