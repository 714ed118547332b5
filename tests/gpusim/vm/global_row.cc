// Rows of global memory (row.h).
#include "tests/gpusim/vm/global_order.h"

namespace trireme::gpusim {
namespace {

GlobalAccess OfWord(const GlobalRowAccess& access, uint32_t word) {
  if (!access.there) return {};
  return {access.agent, access.time, access.lanes.Of(word), 15, false, false};
}

}  // namespace

bool OpenRow(const GlobalCells& cells, uint64_t index, const GlobalAccessor& who) {
  GlobalRow& row = cells.rows[index];
  if (row.launch != who.launch) return EnterRow(cells, index, who);
  if (row.state == RowState::kContested) return false;
  // Its blocks, and their words, know what the row did.
  row.state = RowState::kOpen;
  constexpr uint32_t kBlocks = kRowBytes / GlobalBlock::kBytes;
  for (uint32_t b = 0; b < kBlocks; ++b) {
    GlobalBlock& block = cells.blocks[index * kBlocks + b];
    const uint32_t first = b * GlobalBlock::kWords;
    const auto alike = [](const GlobalRowAccess& access) {
      return !access.there || access.lanes.words >= GlobalBlock::kWords;
    };
    block = {row.launch, !alike(row.writer) || !alike(row.reader), OfWord(row.writer, first),
             OfWord(row.reader, first)};
    if (!block.by_words) continue;
    for (uint32_t word = first; word < first + GlobalBlock::kWords; ++word) {
      cells.words[index * kRowBytes / 4 + word] = {OfWord(row.writer, word),
                                                   OfWord(row.reader, word)};
    }
  }
  return true;
}

bool WriteOpenRow(const GlobalCells& cells, uint64_t address, RowLanes lanes,
                  const GlobalAccessor& who) {
  GlobalAccessor lane = who;
  Fault unused;
  const uint32_t bytes = 4u * lanes.words;
  for (uint32_t offset = 0; offset < kRowBytes; offset += bytes) {
    lane.local.lane = lanes.Of(offset / 4);
    if (CheckGlobalWrite(cells, address + offset, bytes, lane, &unused)) return false;
  }
  return true;
}

}  // namespace trireme::gpusim
