// What is remembered of a row (row.h) of shared memory that was written as a whole.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "tests/gpusim/vm/accessor.h"
#include "tests/gpusim/vm/row.h"
#include "tests/gpusim/vm/shadow_block.h"

namespace trireme::gpusim {

// As long as it is `whole` this counts, and not its blocks: one agent has written it at one time,
// and since then there were reads of the whole row, and of chunks of 16 bytes, as those of ldmatrix
// and wgmma are. What it has no place for opens it.
struct SharedRow {
  static constexpr int kMaxReaders = 4, kMaxChunkReaders = 8;
  static constexpr uint32_t kChunks = kRowBytes / SharedBlock::kBytes;

  struct Access {
    uint32_t time = 0;
    uint16_t agent = 0;
    RowLanes lanes;

    bool IsSeenBy(const Accessor& who, RowLanes by) const {
      if (agent != who.agent) return time <= who.seen->Of(agent).all;
      return time <= who.lanes_seen || lanes == by;
    }
  };
  // Of an agent: which lanes have read a chunk (0: none has), and when.
  struct ChunkReader {
    std::array<uint32_t, kChunks> times;
    std::array<LaneMask, kChunks> lanes;
    uint32_t newest = 0;  // time
  };

  uint32_t generation = 0;
  bool whole = false;
  bool in_flight = false;  // a copy into it, by the lanes of `writer`
  uint8_t num_readers = 0, num_chunk_readers = 0;
  Access writer;
  std::array<uint16_t, kChunks> reads_in_flight;
  std::array<uint16_t, kMaxChunkReaders> chunk_agents;
  std::array<Access, kMaxReaders> readers;
  std::array<ChunkReader, kMaxChunkReaders> chunk_readers;

  bool HasReadsInFlight() const {
    const auto bits = std::bit_cast<std::array<uint64_t, 2>>(reads_in_flight);
    return (bits[0] | bits[1]) != 0;
  }
  // All below: of a row that is whole. False: it takes a closer look.
  bool TryRead(RowLanes lanes, const Accessor& who);
  bool IsWritable(RowLanes lanes, const Accessor& who) const;
  bool IsReadable(uint32_t chunk, const Accessor& who) const;
  bool NoteReader(uint32_t chunk, const Accessor& who);  // of a chunk

  // From here on it is whole.
  void SetWriter(uint32_t new_generation, RowLanes lanes, const Accessor& who) {
    generation = new_generation;
    whole = true;
    in_flight = false;
    num_readers = num_chunk_readers = 0;
    reads_in_flight = {};
    writer = {who.time, static_cast<uint16_t>(who.agent), lanes};
  }
};

inline bool SharedRow::TryRead(RowLanes lanes, const Accessor& who) {
  if (in_flight || !writer.IsSeenBy(who, lanes)) return false;
  const Access me = {who.time, static_cast<uint16_t>(who.agent), lanes};
  for (size_t i = 0; i < num_readers; ++i) {
    Access& reader = readers[i];
    if (reader.agent != me.agent) continue;
    if (!reader.IsSeenBy(who, lanes)) return false;
    // Who is ordered after this read is so after those that it has seen.
    reader = me;
    return true;
  }
  if (num_readers == kMaxReaders) return false;
  readers[num_readers++] = me;
  return true;
}

inline bool SharedRow::IsReadable(uint32_t chunk, const Accessor& who) const {
  if (in_flight) return false;
  // The generic proxy's write.
  if (who.async_proxy && writer.time > who.fenced->Of(writer.agent).all) return false;
  if (writer.agent != who.agent) return writer.time <= who.seen->Of(writer.agent).all;
  return writer.time <= who.lanes_seen ||
         (writer.lanes.words >= SharedBlock::kWords &&
          writer.lanes.Of(chunk * SharedBlock::kWords) == who.lane);
}

inline bool SharedRow::NoteReader(uint32_t chunk, const Accessor& who) {
  const LaneMask lane = LaneMask{1} << who.lane;
  size_t mine = 0;
  while (mine < num_chunk_readers && chunk_agents[mine] != who.agent) ++mine;
  if (mine == kMaxChunkReaders) return false;
  ChunkReader& reader = chunk_readers[mine];
  if (mine == num_chunk_readers) {
    chunk_agents[num_chunk_readers++] = static_cast<uint16_t>(who.agent);
    reader.lanes = {};
  }
  LaneMask& lanes = reader.lanes[chunk];
  uint32_t& time = reader.times[chunk];
  if (lanes != 0 && time == who.time) {
    lanes |= lane;
    return true;
  }
  // Who is ordered after this read is so after those that it has seen.
  if (lanes != 0 && time > who.lanes_seen && (lanes & ~lane) != 0) return false;
  lanes = lane;
  time = reader.newest = who.time;
  return true;
}

}  // namespace trireme::gpusim
