// What is remembered of 16 bytes of shared memory (shadow.h): exact to the byte for writers, to the
// word for readers.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "tests/gpusim/vm/accessor.h"

namespace trireme::gpusim {

// As wide as a lane's widest access. Who does not find room among the writers or the readers drives
// out the oldest: an error may be missed, but none is made up.
struct alignas(64) SharedBlock {
  static constexpr int kWords = 4, kMaxWriters = 4, kMaxReaders = 4;
  static constexpr uint32_t kBytes = 16;
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
  // Some of its bytes.
  struct Part {
    uint32_t first_word;  // of the block, in shared memory
    uint32_t bytes, words;
  };

  uint32_t generation = 0;
  uint16_t defined = 0;  // bytes
  uint8_t num_writers = 0, num_readers = 0;
  uint8_t mbarrier = 0;  // words; they count as writes in flight, too
  std::array<uint16_t, kWords> writes_in_flight = {}, reads_in_flight = {};
  std::array<Writer, kMaxWriters> writers;
  std::array<Reader, kMaxReaders> readers;

  void Clear(uint32_t new_generation) {
    generation = new_generation;
    defined = 0;
    num_writers = num_readers = mbarrier = 0;
    writes_in_flight = reads_in_flight = {};
  }

  // The commonest accesses, of whole words by the generic proxy. True: in order. False: it takes a
  // closer look.
  bool TryReadWhole(const Accessor& who);
  bool TryWriteWhole(const Accessor& who);
  bool TryReadWords(uint32_t first, uint32_t num, const Accessor& who);
  bool TryWriteWords(uint32_t first, uint32_t num, const Accessor& who);

  // Each false if the access would be in order; else *fault says why not.
  bool CheckReadable(const Part& part, const Accessor& who, Fault* fault) const;
  bool CheckWritable(const Part& part, const Accessor& who, bool atomic, Fault* fault) const;
  void NoteReader(const Part& part, const Accessor& who);
  void NoteWriter(const Part& part, const Accessor& who, bool atomic);
  // Nothing but a reader of the whole block, whatever the order.
  void AddReader(uint32_t time, uint16_t agent, const std::array<LaneMask, kWords>& lanes);

  // The words that some of these bytes lie in, as bits.
  static uint32_t WordsOf(uint32_t bytes) {
    bytes |= bytes >> 1;
    bytes = (bytes | bytes >> 2) & 0x1111;
    return (bytes | bytes >> 3 | bytes >> 6 | bytes >> 9) & 15;
  }

 private:
  bool IsPlain() const { return std::bit_cast<uint64_t>(writes_in_flight) == 0; }
  bool IsFree() const {
    return (std::bit_cast<uint64_t>(writes_in_flight) | std::bit_cast<uint64_t>(reads_in_flight)) ==
           0;
  }
};

// Whether that is plainly seen; false: it takes a closer look.
inline bool HasSeen(const SharedBlock::Writer& writer, const Accessor& who) {
  if (writer.agent != who.agent) return writer.time <= who.seen->Of(writer.agent).all;
  const auto lane = static_cast<uint32_t>(who.lane);
  return writer.time <= who.lanes_seen ||
         std::bit_cast<uint32_t>(writer.lanes) == lane * 0x01010101u;
}
inline bool HasSeen(const SharedBlock::Writer& writer, uint32_t word, const Accessor& who) {
  if (writer.agent != who.agent) return writer.time <= who.seen->Of(writer.agent).all;
  return writer.time <= who.lanes_seen || writer.lanes[word] == who.lane;
}
inline bool HasSeen(const SharedBlock::Reader& reader, LaneMask lanes, const Accessor& who) {
  if (reader.agent != who.agent) return reader.time <= who.seen->Of(reader.agent).all;
  return reader.time <= who.lanes_seen || (lanes & ~(LaneMask{1} << who.lane)) == 0;
}

// One agent has written all of it.
inline bool SharedBlock::TryReadWhole(const Accessor& who) {
  const Writer& writer = writers[0];
  if (num_writers != 1 || writer.bytes != kAllBytes || !IsPlain() || !HasSeen(writer, who)) {
    return false;
  }
  Reader& reader = readers[0];
  const LaneMask lane = LaneMask{1} << who.lane;
  if (num_readers == 0 ||
      (num_readers == 1 && reader.agent == who.agent && reader.time <= who.lanes_seen)) {
    reader.time = who.time;
    reader.agent = static_cast<uint16_t>(who.agent);
    reader.lanes = {lane, lane, lane, lane};
    num_readers = 1;
    return true;
  }
  if (reader.agent != who.agent || reader.time != who.time) return TryReadWords(0, kWords, who);
  for (LaneMask& lanes : reader.lanes) lanes |= lane;
  return true;
}

inline bool SharedBlock::TryWriteWhole(const Accessor& who) {
  const Writer& writer = writers[0];
  if (num_writers > 1 || !IsFree() || (num_writers == 1 && !HasSeen(writer, who))) return false;
  for (size_t i = 0; i < num_readers; ++i) {
    const auto& lanes = readers[i].lanes;
    if (!HasSeen(readers[i], lanes[0] | lanes[1] | lanes[2] | lanes[3], who)) return false;
  }
  defined = kAllBytes;
  const auto lane = static_cast<uint8_t>(who.lane);
  writers[0] = {who.time,  static_cast<uint16_t>(who.agent),
                kAllBytes, {lane, lane, lane, lane},
                false,     false};
  num_writers = 1;
  num_readers = 0;
  return true;
}

// What NoteReader() and NoteWriter() do, for words.
inline bool SharedBlock::TryReadWords(uint32_t first, uint32_t num, const Accessor& who) {
  const uint32_t bytes = ((1u << 4 * num) - 1) << 4 * first;
  if (!IsPlain() || (defined & bytes) != bytes) return false;
  for (size_t i = 0; i < num_writers; ++i) {
    const Writer& writer = writers[i];
    for (uint32_t word = first; word < first + num; ++word) {
      if ((writer.bytes >> 4 * word & 15) != 0 && !HasSeen(writer, word, who)) return false;
    }
  }
  const LaneMask lane = LaneMask{1} << who.lane;
  Reader* mine = nullptr;
  for (size_t i = 0; i < num_readers; ++i) {
    Reader& reader = readers[i];
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
    if (num_readers == kMaxReaders) return false;
    mine = &readers[num_readers++];
    *mine = {who.time, static_cast<uint16_t>(who.agent), {}};
  }
  for (uint32_t word = first; word < first + num; ++word) mine->lanes[word] |= lane;
  return true;
}

inline bool SharedBlock::TryWriteWords(uint32_t first, uint32_t num, const Accessor& who) {
  const auto bytes = static_cast<uint16_t>(((1u << 4 * num) - 1) << 4 * first);
  if (!IsFree() || num_writers == kMaxWriters) return false;
  for (uint32_t word = first; word < first + num; ++word) {
    for (size_t i = 0; i < num_writers; ++i) {
      const Writer& writer = writers[i];
      if ((writer.bytes >> 4 * word & 15) != 0 && !HasSeen(writer, word, who)) return false;
    }
    for (size_t i = 0; i < num_readers; ++i) {
      const Reader& reader = readers[i];
      if (reader.lanes[word] != 0 && !HasSeen(reader, reader.lanes[word], who)) return false;
    }
  }
  defined |= bytes;
  const auto agent = static_cast<uint16_t>(who.agent);
  Writer* mine = nullptr;
  size_t kept = 0;
  for (size_t i = 0; i < num_writers; ++i) {
    Writer writer = writers[i];
    writer.bytes &= static_cast<uint16_t>(~bytes);
    if (writer.bytes == 0) continue;
    Writer& place = writers[kept++] = writer;
    if (writer.agent == agent && writer.time == who.time && !writer.atomic && !writer.async_proxy) {
      mine = &place;
    }
  }
  if (mine == nullptr) {
    mine = &writers[kept++];
    *mine = {who.time, agent, 0, {}, false, false};
  }
  mine->bytes |= bytes;
  for (uint32_t word = first; word < first + num; ++word) {
    mine->lanes[word] = static_cast<uint8_t>(who.lane);
  }
  num_writers = static_cast<uint8_t>(kept);
  uint8_t left = 0;
  for (size_t i = 0; i < num_readers; ++i) {
    Reader reader = readers[i];
    for (uint32_t word = first; word < first + num; ++word) reader.lanes[word] = 0;
    if ((reader.lanes[0] | reader.lanes[1] | reader.lanes[2] | reader.lanes[3]) != 0) {
      readers[left++] = reader;
    }
  }
  num_readers = left;
  return true;
}

}  // namespace trireme::gpusim
