// Rows of shared memory (row.h).
#include "tests/gpusim/vm/shadow.h"

namespace trireme::gpusim {

// From now on its blocks count: they know what the row did.
void SharedShadow::Open(uint32_t index) {
  Row& row = rows_[index];
  row.whole = false;
  for (uint32_t b = 0; b < kRowBlocks; ++b) {
    Block& block = blocks_[index * kRowBlocks + b];
    block = Block{};
    block.generation = generation_;
    block.defined = kAllBytes;
    block.num_writers = 1;
    block.writers[0] = {row.writer.time, row.writer.agent, kAllBytes, {}, false, false};
    block.num_readers = row.num_readers;
    for (uint32_t word = 0; word < kWords; ++word) {
      const uint32_t of_row = b * kWords + word;
      block.writers[0].lanes[word] = row.writer.lanes.Of(of_row);
      for (size_t i = 0; i < row.num_readers; ++i) {
        const RowAccess& reader = row.readers[i];
        block.readers[i].time = reader.time;
        block.readers[i].agent = reader.agent;
        block.readers[i].lanes[word] = LaneMask{1} << reader.lanes.Of(of_row);
      }
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

}  // namespace trireme::gpusim
