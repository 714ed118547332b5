// What the checkers remember of shared memory: who wrote its bytes, who has read them since, what
// is still being copied there. Kept for blocks of 16 bytes, exact to the byte for writers and to
// the word for readers.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/gpusim/vm/clock.h"
#include "tests/gpusim/vm/report.h"
#include "tests/gpusim/vm/row.h"

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

  // The commonest accesses: 4, 8 or 16 bytes, aligned, by the generic proxy. True: in order. False:
  // Read() and Write() take a closer look.
  bool TryRead(uint32_t at, uint32_t size, const Accessor& who) {
    Block& block = At(at / kBlockBytes);
    if (size == kBlockBytes) return ReadWhole(&block, who);
    return size >= 4 && ReadWords(&block, at % kBlockBytes / 4, size / 4, who);
  }
  bool TryWrite(uint32_t at, uint32_t size, const Accessor& who) {
    Block& block = At(at / kBlockBytes);
    if (size == kBlockBytes) return WriteWhole(&block, who);
    return size >= 4 && WriteWords(&block, at % kBlockBytes / 4, size / 4, who);
  }

  // The same for a row, of which every lane touches its share; lanes_seen holds for all of them.
  bool TryReadRow(uint32_t at, RowLanes lanes, const Accessor& who);
  bool TryWriteRow(uint32_t at, RowLanes lanes, const Accessor& who);

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
  static constexpr int kWords = 4, kMaxWriters = 4, kMaxReaders = 4;
  static constexpr uint32_t kBlockBytes = 16;
  static constexpr uint16_t kAllBytes = 0xffff;

  // Bytes that one agent has written at one time.
  struct Writer {
    uint32_t time = 0;
    uint16_t agent = 0;
    uint16_t bytes = 0;
    std::array<uint8_t, kWords> lanes;  // by word
    bool atomic = false, async_proxy = false;
  };
  // What one agent has read at one time, and nobody has written since.
  struct Reader {
    uint32_t time = 0;
    uint16_t agent = 0;
    std::array<LaneMask, kWords> lanes;  // by word
  };
  // 16 bytes, as wide as a lane's widest access. Who does not find room among the writers or the
  // readers drives out the oldest: an error may be missed, but none is made up.
  struct alignas(64) Block {
    uint32_t generation = 0;
    uint16_t defined = 0;  // bytes
    uint8_t num_writers = 0, num_readers = 0;
    uint8_t mbarrier = 0;  // words; they count as writes in flight, too
    std::array<uint16_t, kWords> writes_in_flight = {}, reads_in_flight = {};
    std::array<Writer, kMaxWriters> writers;
    std::array<Reader, kMaxReaders> readers;
  };
  static constexpr uint32_t kRowBlocks = kRowBytes / kBlockBytes;
  struct RowAccess {
    uint32_t time = 0;
    uint16_t agent = 0;
    RowLanes lanes;

    bool IsSeenBy(const Accessor& who, RowLanes by) const {
      if (agent != who.agent) return time <= who.seen->Of(agent).all;
      return time <= who.lanes_seen || lanes == by;
    }
  };
  // 128 bytes. Whole: one agent has written them at one time, whole rows were read since, nothing
  // is in flight; this counts, and not its blocks.
  struct Row {
    uint32_t generation = 0;
    bool whole = false;
    uint8_t num_readers = 0;
    RowAccess writer;
    std::array<RowAccess, kMaxReaders> readers;
  };
  // The part of an access that lies in one block.
  struct Part {
    Block& block;
    uint32_t first_word;  // of the block
    uint32_t bytes, words;
  };

  Block& At(uint32_t index) {
    Row& row = rows_[index / kRowBlocks];
    if (row.generation != generation_) {
      row.generation = generation_;
      row.whole = false;
    } else if (row.whole) [[unlikely]] {
      Open(index / kRowBlocks);
    }
    return BlockAt(index);
  }
  Block& BlockAt(uint32_t index) {
    Block& block = blocks_[index];
    if (block.generation != generation_) {
      block.generation = generation_;
      block.defined = 0;
      block.num_writers = block.num_readers = block.mbarrier = 0;
      block.writes_in_flight = block.reads_in_flight = {};
    }
    return block;
  }
  static bool IsPlain(const Block& block) {
    return std::bit_cast<uint64_t>(block.writes_in_flight) == 0;
  }
  static bool IsFree(const Block& block) {
    return (std::bit_cast<uint64_t>(block.writes_in_flight) |
            std::bit_cast<uint64_t>(block.reads_in_flight)) == 0;
  }
  // Whether that is plainly seen; false: it takes a closer look.
  static bool HasSeen(const Writer& writer, const Accessor& who) {
    if (writer.agent != who.agent) return writer.time <= who.seen->Of(writer.agent).all;
    const auto lane = static_cast<uint32_t>(who.lane);
    return writer.time <= who.lanes_seen ||
           std::bit_cast<uint32_t>(writer.lanes) == lane * 0x01010101u;
  }
  static bool HasSeen(const Writer& writer, uint32_t word, const Accessor& who) {
    if (writer.agent != who.agent) return writer.time <= who.seen->Of(writer.agent).all;
    return writer.time <= who.lanes_seen || writer.lanes[word] == who.lane;
  }
  static bool HasSeen(const Reader& reader, LaneMask lanes, const Accessor& who) {
    if (reader.agent != who.agent) return reader.time <= who.seen->Of(reader.agent).all;
    return reader.time <= who.lanes_seen || (lanes & ~(LaneMask{1} << who.lane)) == 0;
  }
  // A block that one agent has written as a whole.
  static bool ReadWhole(Block* block, const Accessor& who) {
    const Writer& writer = block->writers[0];
    if (block->num_writers != 1 || writer.bytes != kAllBytes || !IsPlain(*block) ||
        !HasSeen(writer, who)) {
      return false;
    }
    Reader& reader = block->readers[0];
    const LaneMask lane = LaneMask{1} << who.lane;
    if (block->num_readers == 0 ||
        (block->num_readers == 1 && reader.agent == who.agent && reader.time <= who.lanes_seen)) {
      reader.time = who.time;
      reader.agent = static_cast<uint16_t>(who.agent);
      reader.lanes = {lane, lane, lane, lane};
      block->num_readers = 1;
      return true;
    }
    if (reader.agent != who.agent || reader.time != who.time) return false;
    for (LaneMask& lanes : reader.lanes) lanes |= lane;
    return true;
  }
  static bool WriteWhole(Block* block, const Accessor& who) {
    const Writer& writer = block->writers[0];
    if (block->num_writers > 1 || !IsFree(*block) ||
        (block->num_writers == 1 && !HasSeen(writer, who))) {
      return false;
    }
    for (int i = 0; i < block->num_readers; ++i) {
      const Reader& reader = block->readers[static_cast<size_t>(i)];
      const auto& lanes = reader.lanes;
      if (!HasSeen(reader, lanes[0] | lanes[1] | lanes[2] | lanes[3], who)) return false;
    }
    block->defined = kAllBytes;
    const auto lane = static_cast<uint8_t>(who.lane);
    block->writers[0] = {who.time,  static_cast<uint16_t>(who.agent),
                         kAllBytes, {lane, lane, lane, lane},
                         false,     false};
    block->num_writers = 1;
    block->num_readers = 0;
    return true;
  }
  static bool ReadWords(Block* block, uint32_t first, uint32_t num, const Accessor& who);
  static bool WriteWords(Block* block, uint32_t first, uint32_t num, const Accessor& who);
  void Open(uint32_t row);
  bool WriteOpenRow(uint32_t at, RowLanes lanes, const Accessor& who);
  // The first word that is not ordered, -1: all are.
  static int Unordered(const Writer& writer, uint32_t bytes, const Accessor& who);
  static int Unordered(const Reader& reader, uint32_t words, const Accessor& who);
  static int Unfenced(const Writer& writer, uint32_t bytes, const Accessor& who);
  static void NoteReader(const Part& part, const Accessor& who);
  static void NoteWriter(const Part& part, const Accessor& who, bool atomic);
  static bool CheckReadable(const Part& part, const Accessor& who, Fault* fault);
  static bool CheckWritable(const Part& part, const Accessor& who, bool atomic, Fault* fault);
  template <typename F>
  bool EachPart(uint32_t at, uint32_t size, F&& f);

  std::vector<Block> blocks_;
  std::vector<Row> rows_;
  uint32_t generation_ = 0;
};

// What NoteReader() and NoteWriter() do, for words.
inline bool SharedShadow::ReadWords(Block* block, uint32_t first, uint32_t num,
                                    const Accessor& who) {
  const uint32_t bytes = ((1u << 4 * num) - 1) << 4 * first;
  if (!IsPlain(*block) || (block->defined & bytes) != bytes) return false;
  for (size_t i = 0; i < block->num_writers; ++i) {
    const Writer& writer = block->writers[i];
    for (uint32_t word = first; word < first + num; ++word) {
      if ((writer.bytes >> 4 * word & 15) != 0 && !HasSeen(writer, word, who)) return false;
    }
  }
  const LaneMask lane = LaneMask{1} << who.lane;
  Reader* mine = nullptr;
  for (size_t i = 0; i < block->num_readers; ++i) {
    Reader& reader = block->readers[i];
    if (reader.agent != who.agent) continue;
    if (reader.time == who.time) {
      mine = &reader;
      continue;
    }
    // Who is ordered after this read is so after those of the agent that it has seen.
    const LaneMask known = reader.time <= who.lanes_seen ? kAllLanes : lane;
    for (uint32_t word = first; word < first + num; ++word) reader.lanes[word] &= ~known;
    if ((reader.lanes[0] | reader.lanes[1] | reader.lanes[2] | reader.lanes[3]) == 0) {
      reader.time = who.time;
      mine = &reader;
    }
  }
  if (mine == nullptr) {
    if (block->num_readers == kMaxReaders) return false;
    mine = &block->readers[block->num_readers++];
    *mine = {who.time, static_cast<uint16_t>(who.agent), {}};
  }
  for (uint32_t word = first; word < first + num; ++word) mine->lanes[word] |= lane;
  return true;
}

inline bool SharedShadow::WriteWords(Block* block, uint32_t first, uint32_t num,
                                     const Accessor& who) {
  const auto bytes = static_cast<uint16_t>(((1u << 4 * num) - 1) << 4 * first);
  if (!IsFree(*block) || block->num_writers == kMaxWriters) return false;
  for (uint32_t word = first; word < first + num; ++word) {
    for (size_t i = 0; i < block->num_writers; ++i) {
      const Writer& writer = block->writers[i];
      if ((writer.bytes >> 4 * word & 15) != 0 && !HasSeen(writer, word, who)) return false;
    }
    for (size_t i = 0; i < block->num_readers; ++i) {
      const Reader& reader = block->readers[i];
      if (reader.lanes[word] != 0 && !HasSeen(reader, reader.lanes[word], who)) return false;
    }
  }
  block->defined |= bytes;
  const auto agent = static_cast<uint16_t>(who.agent);
  Writer* mine = nullptr;
  size_t kept = 0;
  for (size_t i = 0; i < block->num_writers; ++i) {
    Writer writer = block->writers[i];
    writer.bytes &= static_cast<uint16_t>(~bytes);
    if (writer.bytes == 0) continue;
    Writer& place = block->writers[kept++] = writer;
    if (writer.agent == agent && writer.time == who.time && !writer.atomic && !writer.async_proxy) {
      mine = &place;
    }
  }
  if (mine == nullptr) {
    mine = &block->writers[kept++];
    *mine = {who.time, agent, 0, {}, false, false};
  }
  mine->bytes |= bytes;
  for (uint32_t word = first; word < first + num; ++word) {
    mine->lanes[word] = static_cast<uint8_t>(who.lane);
  }
  block->num_writers = static_cast<uint8_t>(kept);
  uint8_t readers = 0;
  for (size_t i = 0; i < block->num_readers; ++i) {
    Reader reader = block->readers[i];
    for (uint32_t word = first; word < first + num; ++word) reader.lanes[word] = 0;
    if ((reader.lanes[0] | reader.lanes[1] | reader.lanes[2] | reader.lanes[3]) != 0) {
      block->readers[readers++] = reader;
    }
  }
  block->num_readers = readers;
  return true;
}

inline bool SharedShadow::TryReadRow(uint32_t at, RowLanes lanes, const Accessor& who) {
  Row& row = rows_[at / kRowBytes];
  if (row.generation != generation_ || !row.whole || !row.writer.IsSeenBy(who, lanes)) return false;
  const RowAccess me = {who.time, static_cast<uint16_t>(who.agent), lanes};
  for (size_t i = 0; i < row.num_readers; ++i) {
    RowAccess& reader = row.readers[i];
    if (reader.agent != me.agent) continue;
    if (!reader.IsSeenBy(who, lanes)) return false;
    // Who is ordered after this read is so after those that it has seen.
    reader = me;
    return true;
  }
  if (row.num_readers == kMaxReaders) return false;
  row.readers[row.num_readers++] = me;
  return true;
}

inline bool SharedShadow::TryWriteRow(uint32_t at, RowLanes lanes, const Accessor& who) {
  Row& row = rows_[at / kRowBytes];
  if (row.generation == generation_) {
    if (!row.whole) {
      if (!WriteOpenRow(at, lanes, who)) return false;
    } else {
      if (!row.writer.IsSeenBy(who, lanes)) return false;
      for (size_t i = 0; i < row.num_readers; ++i) {
        if (!row.readers[i].IsSeenBy(who, lanes)) return false;
      }
    }
  }
  row.generation = generation_;
  row.whole = true;
  row.num_readers = 0;
  row.writer = {who.time, static_cast<uint16_t>(who.agent), lanes};
  return true;
}

}  // namespace trireme::gpusim
