// Rows of shared memory (row.h).
#include "tests/gpusim/vm/shadow_row.h"

#include <algorithm>

#include "tests/gpusim/vm/shadow.h"

namespace trireme::gpusim {

bool SharedRow::IsWritable(RowLanes lanes, const Accessor& who) const {
  if (in_flight || HasReadsInFlight() || !writer.IsSeenBy(who, lanes)) return false;
  for (size_t i = 0; i < num_readers; ++i) {
    if (!readers[i].IsSeenBy(who, lanes)) return false;
  }
  for (size_t i = 0; i < num_chunk_readers; ++i) {
    const ChunkReader& reader = chunk_readers[i];
    const uint32_t agent = chunk_agents[i];
    const uint32_t seen = agent == who.agent ? who.lanes_seen : who.seen->Of(agent).all;
    if (reader.newest <= seen) continue;
    for (uint32_t chunk = 0; chunk < kChunks; ++chunk) {
      if (reader.lanes[chunk] == 0 || reader.times[chunk] <= seen) continue;
      const bool own = agent == who.agent && lanes.words >= SharedBlock::kWords &&
                       reader.lanes[chunk] == LaneMask{1} << lanes.Of(chunk * SharedBlock::kWords);
      if (!own) return false;
    }
  }
  return true;
}

// From now on its blocks count: they know what the row did.
void SharedShadow::Open(uint32_t index) {
  constexpr int kWords = SharedBlock::kWords;
  SharedRow& row = rows_[index];
  row.whole = false;
  for (uint32_t b = 0; b < kRowBlocks; ++b) {
    SharedBlock& block = blocks_[index * kRowBlocks + b];
    block.Clear(generation_);
    block.defined = SharedBlock::kAllBytes;
    block.num_writers = 1;
    block.writers[0] = {
        row.writer.time, row.writer.agent, SharedBlock::kAllBytes, {}, false, false};
    for (uint32_t word = 0; word < kWords; ++word) {
      block.writers[0].lanes[word] = row.writer.lanes.Of(b * kWords + word);
    }
    if (row.in_flight) block.writes_in_flight.fill(1);
    block.reads_in_flight.fill(row.reads_in_flight[b]);
    for (size_t i = 0; i < row.num_readers; ++i) {
      const SharedRow::Access& reader = row.readers[i];
      std::array<LaneMask, kWords> lanes;
      for (uint32_t word = 0; word < kWords; ++word) {
        lanes[word] = LaneMask{1} << reader.lanes.Of(b * kWords + word);
      }
      block.AddReader(reader.time, reader.agent, lanes);
    }
    for (size_t i = 0; i < row.num_chunk_readers; ++i) {
      const SharedRow::ChunkReader& reader = row.chunk_readers[i];
      const LaneMask lanes = reader.lanes[b];
      if (lanes == 0) continue;
      block.AddReader(reader.times[b], row.chunk_agents[i], {lanes, lanes, lanes, lanes});
    }
  }
}

// Its blocks count: each has to let this write pass.
bool SharedShadow::WriteOpenRow(uint32_t at, RowLanes lanes, const Accessor& who) {
  Accessor lane = who;
  const uint32_t bytes = 4u * lanes.words;
  for (uint32_t offset = 0; offset < kRowBytes; offset += bytes) {
    lane.lane = lanes.Of(offset / 4);
    if (!TryWrite(at + offset, bytes, lane)) return false;
  }
  return true;
}

void SharedShadow::EndWriteRow(uint32_t at, RowLanes lanes, const Accessor& as) {
  SharedRow* const row = Whole(at);
  if (row != nullptr && row->in_flight) return row->SetWriter(generation_, lanes, as);
  Accessor lane = as;
  const uint32_t bytes = 4u * lanes.words;
  for (uint32_t offset = 0; offset < kRowBytes; offset += bytes) {
    lane.lane = lanes.Of(offset / 4);
    EndWrite(at + offset, bytes, lane);
  }
}

}  // namespace trireme::gpusim
