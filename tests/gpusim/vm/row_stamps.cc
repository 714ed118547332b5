#include "tests/gpusim/vm/row_stamps.h"

#include "tests/gpusim/vm/global_order.h"
#include "tests/gpusim/vm/stream_order.h"

namespace trireme::gpusim {
namespace {

constexpr uint32_t kWords = kRowBytes / 4;
constexpr uint8_t kAllBytes = 15;

// Of two readers the older one of the newcomer's stream is known by it, and goes. Of three streams
// the oldest is forgotten.
template <typename Get>
size_t ReaderToReplace(uint32_t operation, Get&& number_of) {
  const uint32_t first = number_of(0), second = number_of(1);
  if (first == 0 || first == operation) return 0;
  if (second == 0 || second == operation) {
    return StreamOfOperation(first) == StreamOfOperation(operation) ? 0 : 1;
  }
  if (StreamOfOperation(first) == StreamOfOperation(operation)) return 0;
  if (StreamOfOperation(second) == StreamOfOperation(operation)) return 1;
  return first < second ? 0 : 1;
}

// Who touched other bytes of the word is forgotten.
void Add(WordStamp* stamp, uint32_t operation, uint8_t bytes) {
  if (stamp->operation != operation) *stamp = {operation, 0};
  stamp->bytes |= bytes;
}

void StampWord(WordStamps* word, uint32_t operation, uint8_t bytes, bool writes) {
  if (bytes == 0) return;
  if (writes) {
    Add(&word->writer, operation, bytes);
    for (WordStamp& reader : word->readers) {
      reader.bytes &= static_cast<uint8_t>(~bytes);
      if (reader.bytes == 0) reader.operation = 0;
    }
    return;
  }
  const size_t at =
      ReaderToReplace(operation, [&](size_t i) { return uint32_t{word->readers[i].operation}; });
  Add(&word->readers[at], operation, bytes);
}

WordStamp Whole(uint32_t operation) { return {operation, operation != 0 ? kAllBytes : uint8_t{0}}; }

WordStamps* ByWords(const GlobalCells& cells, uint64_t row) {
  RowStamps& stamps = cells.stamps[row];
  WordStamps* const words = cells.word_stamps + row * kWords;
  if (!stamps.by_words) {
    const WordStamps each = {Whole(stamps.writer),
                             {Whole(stamps.readers[0]), Whole(stamps.readers[1])}};
    std::fill_n(words, kWords, each);
    stamps.writer = std::max({stamps.writer, stamps.readers[0], stamps.readers[1]});
    stamps.by_words = true;
  }
  return words;
}

void StampRow(const GlobalCells& cells, uint64_t row, uint32_t operation, bool writes) {
  RowStamps& stamps = cells.stamps[row];
  if (writes) {
    stamps.writer = operation;
    stamps.readers[0] = stamps.readers[1] = 0;
    stamps.by_words = false;
  } else if (stamps.by_words) {
    WordStamps* const words = ByWords(cells, row);
    for (uint32_t i = 0; i < kWords; ++i) StampWord(&words[i], operation, kAllBytes, false);
    stamps.writer = std::max(stamps.writer, operation);
  } else {
    stamps.readers[ReaderToReplace(operation, [&](size_t i) { return stamps.readers[i]; })] =
        operation;
  }
}

uint8_t WeakBytes(const GlobalAccess& access) { return access.strong ? uint8_t{0} : access.bytes; }

// Whether the launch has touched all of every block, weakly, as far as `of_block` looks.
template <typename F>
bool AllBlocks(const GlobalCells& cells, uint64_t row, uint32_t launch, F&& of_block) {
  constexpr uint32_t kBlocks = kRowBytes / GlobalBlock::kBytes;
  const GlobalBlock* const blocks = cells.blocks + row * kBlocks;
  return std::all_of(blocks, blocks + kBlocks, [&](const GlobalBlock& block) {
    return block.launch == launch && !block.by_words && WeakBytes(of_block(block)) == kAllBytes;
  });
}

void FoldBlocks(const GlobalCells& cells, uint64_t row, uint32_t launch) {
  constexpr uint32_t kBlocks = kRowBytes / GlobalBlock::kBytes;
  const auto writer = [](const GlobalBlock& block) { return block.writer; };
  const auto reader = [](const GlobalBlock& block) { return block.reader; };
  const bool all_written = AllBlocks(cells, row, launch, writer);
  const bool all_read = AllBlocks(cells, row, launch, reader);
  if (all_written) StampRow(cells, row, launch, true);
  if (all_read) StampRow(cells, row, launch, false);
  for (uint32_t b = 0; b < kBlocks; ++b) {
    const GlobalBlock& block = cells.blocks[row * kBlocks + b];
    if (block.launch != launch) continue;
    for (uint32_t i = b * GlobalBlock::kWords; i < (b + 1) * GlobalBlock::kWords; ++i) {
      const GlobalWord& of_word = cells.words[row * kWords + i];
      const uint8_t written = WeakBytes(block.by_words ? of_word.writer : block.writer);
      const uint8_t read = WeakBytes(block.by_words ? of_word.reader : block.reader);
      if ((written == 0 || all_written) && (read == 0 || all_read)) continue;
      WordStamps* const word = ByWords(cells, row) + i;
      if (!all_written) StampWord(word, launch, written, true);
      if (!all_read) StampWord(word, launch, read, false);
      cells.stamps[row].writer = std::max(cells.stamps[row].writer, launch);
    }
  }
}

}  // namespace

void StampPart(const GlobalCells& cells, uint64_t row, uint64_t from, uint64_t to,
               uint32_t operation, bool writes) {
  if (from == 0 && to == kRowBytes) return StampRow(cells, row, operation, writes);
  WordStamps* const words = ByWords(cells, row);
  EachWord(from, to, [&](uint32_t word, uint8_t bytes) {
    StampWord(&words[word], operation, bytes, writes);
  });
  cells.stamps[row].writer = std::max(cells.stamps[row].writer, operation);
}

void FoldRow(const GlobalCells& cells, uint64_t row) {
  GlobalRow& record = cells.rows[row];
  if (record.launch == 0) return;
  if (record.state == RowState::kWhole) {
    if (record.writer.there) StampRow(cells, row, record.launch, true);
    if (record.reader.there) StampRow(cells, row, record.launch, false);
  } else {
    FoldBlocks(cells, row, record.launch);
  }
  record.launch = 0;
}

}  // namespace trireme::gpusim
