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
  bool Read(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
    if (size == kBlockBytes && at % kBlockBytes == 0 && ReadWhole(&At(at / kBlockBytes), who)) {
      return false;
    }
    return ReadParts(at, size, who, fault);
  }
  // The same without remembering the reader: BeginRead and EndRead do.
  bool CheckRead(uint32_t at, uint32_t size, const Accessor& who, Fault* fault);
  bool Write(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
    if (size == kBlockBytes && at % kBlockBytes == 0 && WriteWhole(&At(at / kBlockBytes), who)) {
      return false;
    }
    return WriteParts(at, size, who, fault);
  }
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
  // The part of an access that lies in one block.
  struct Part {
    Block& block;
    uint32_t first_word;  // of the block
    uint32_t bytes, words;
  };

  Block& At(uint32_t index) {
    Block& block = blocks_[index];
    if (block.generation != generation_) {
      block.generation = generation_;
      block.defined = 0;
      block.num_writers = block.num_readers = block.mbarrier = 0;
      block.writes_in_flight = block.reads_in_flight = {};
    }
    return block;
  }
  // The first word that is not ordered, -1: all are.
  // The commonest: a block that one agent has written as a whole, long seen by who touches all of
  // it now. False: it takes a closer look.
  static bool IsPlain(const Block& block) {
    return (block.writes_in_flight[0] | block.writes_in_flight[1] | block.writes_in_flight[2] |
            block.writes_in_flight[3]) == 0;
  }
  static bool HasSeen(const Writer& writer, const Accessor& who) {
    if (writer.agent != who.agent) return writer.time <= who.seen->Of(writer.agent).all;
    const auto lane = static_cast<uint32_t>(who.lane);
    return writer.time <= who.lanes_seen ||
           std::bit_cast<uint32_t>(writer.lanes) == lane * 0x01010101u;
  }
  static bool HasSeen(const Reader& reader, const Accessor& who) {
    if (reader.agent != who.agent) return reader.time <= who.seen->Of(reader.agent).all;
    const auto& lanes = reader.lanes;
    return reader.time <= who.lanes_seen ||
           (lanes[0] | lanes[1] | lanes[2] | lanes[3]) == LaneMask{1} << who.lane;
  }
  static bool ReadWhole(Block* block, const Accessor& who) {
    const Writer& writer = block->writers[0];
    if (block->num_writers != 1 || writer.bytes != kAllBytes || !IsPlain(*block) ||
        who.async_proxy || !HasSeen(writer, who)) {
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
    const bool in_flight = (block->reads_in_flight[0] | block->reads_in_flight[1] |
                            block->reads_in_flight[2] | block->reads_in_flight[3]) != 0;
    if (block->num_writers > 1 || !IsPlain(*block) || in_flight || who.async_proxy ||
        (block->num_writers == 1 && !HasSeen(writer, who))) {
      return false;
    }
    for (int i = 0; i < block->num_readers; ++i) {
      const Reader& reader = block->readers[static_cast<size_t>(i)];
      if (!HasSeen(reader, who)) return false;
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
  bool ReadParts(uint32_t at, uint32_t size, const Accessor& who, Fault* fault);
  bool WriteParts(uint32_t at, uint32_t size, const Accessor& who, Fault* fault);
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
  uint32_t generation_ = 0;
};

}  // namespace trireme::gpusim
