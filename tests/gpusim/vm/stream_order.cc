#include "tests/gpusim/vm/stream_order.h"

#include <algorithm>
#include <array>
#include <memory>
#include <unordered_map>
#include <vector>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/global_order.h"

namespace trireme::gpusim {
namespace {

constexpr uint32_t kWords = kRowBytes / 4;
constexpr uint8_t kAllBytes = 15;

// ---- Releases: who has written a row strongly, by the row's address.

struct Releases {
  std::mutex mu;
  std::unordered_map<uint64_t, std::vector<std::shared_ptr<StreamOperation>>> by_row;

  static Releases& Get() {
    static Releases* const releases = new Releases();
    return *releases;
  }
  std::vector<std::shared_ptr<StreamOperation>> Of(uint64_t row) {
    std::lock_guard lock(mu);
    return by_row[row];
  }
};

uint64_t AddressOf(const GlobalCells& cells, uint64_t row) { return cells.start + row * kRowBytes; }

bool KnowsReleases(const GlobalCells& cells, uint64_t row, const StreamOperation& who) {
  if (cells.of_host) return false;  // the host may do something at any time
  if (cells.stamps[row].releaser == 0) return true;
  const auto releases = Releases::Get().Of(AddressOf(cells, row));
  return std::all_of(releases.begin(), releases.end(), [&](const auto& operation) {
    return operation.get() == &who || who.Covers(operation->Clock());
  });
}

void Acquire(const GlobalCells& cells, uint64_t row, StreamOperation* who) {
  if (cells.of_host) who->Learn(HostClock());
  if (cells.stamps[row].releaser == 0) return;
  for (const auto& operation : Releases::Get().Of(AddressOf(cells, row))) {
    if (operation.get() != who) who->Learn(operation->Clock());
  }
}

// ---- Stamps.

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

// The bytes of the row's word `word` in [from, to) of the row.
uint8_t BytesOf(uint32_t word, uint64_t from, uint64_t to) {
  const uint64_t first = std::max<uint64_t>(from, word * 4) - word * 4;
  const uint64_t last = std::min<uint64_t>(to, word * 4 + 4) - word * 4;
  return static_cast<uint8_t>(((1u << last) - 1) & ~((1u << first) - 1));
}

// Calls f(word, its bytes) for [from, to) of a row.
template <typename F>
void EachWord(uint64_t from, uint64_t to, F&& f) {
  for (auto word = static_cast<uint32_t>(from / 4); word * 4 < to; ++word) {
    f(word, BytesOf(word, from, to));
  }
}

void StampPart(const GlobalCells& cells, uint64_t row, uint64_t from, uint64_t to,
               uint32_t operation, bool writes) {
  if (from == 0 && to == kRowBytes) return StampRow(cells, row, operation, writes);
  WordStamps* const words = ByWords(cells, row);
  EachWord(from, to, [&](uint32_t word, uint8_t bytes) {
    StampWord(&words[word], operation, bytes, writes);
  });
  cells.stamps[row].writer = std::max(cells.stamps[row].writer, operation);
}

// ---- From a launch's records to stamps.

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

// ---- Checks.

bool KnowsAll(const RowStamps& stamps, const WordStamps* words, const StreamOperation& who) {
  if (!stamps.by_words) {
    return who.Knows(stamps.writer) && who.Knows(stamps.readers[0]) && who.Knows(stamps.readers[1]);
  }
  return stamps.writer <= who.floor() ||
         std::all_of(words, words + kWords, [&](const WordStamps& word) {
           return who.Knows(word.writer.operation) && who.Knows(word.readers[0].operation) &&
                  who.Knows(word.readers[1].operation);
         });
}

Fault Unordered(const GlobalCells& cells, uint64_t address, bool writes, bool written,
                uint32_t before, uint32_t who) {
  return {
      FindingKind::kMissingStreamOrder,
      StrCat(DescribeOperation(who), writes ? " writes" : " reads", " byte ", address - cells.start,
             " of an allocation that ", DescribeOperation(before), written ? " writes" : " reads",
             ", and nothing orders the two: an event or a synchronisation is missing")};
}

// Of [from, to) of a row.
bool CheckPart(const GlobalCells& cells, uint64_t row, uint64_t from, uint64_t to, bool writes,
               StreamOperation& who, Fault* fault) {
  const RowStamps& stamps = cells.stamps[row];
  const WordStamps* const words = cells.word_stamps + row * kWords;
  uint32_t found = 0;
  uint64_t at = from;
  bool found_write = false;
  const auto check = [&](uint32_t operation, bool written, uint64_t byte) {
    if (found != 0 || who.Knows(operation)) return;
    found = operation;
    found_write = written;
    at = std::max(byte, from);
  };
  if (!stamps.by_words) {
    check(stamps.writer, true, from);
    if (writes) check(stamps.readers[0], false, from);
    if (writes) check(stamps.readers[1], false, from);
  } else {
    EachWord(from, to, [&](uint32_t word, uint8_t bytes) {
      const WordStamps& of_word = words[word];
      if ((of_word.writer.bytes & bytes) != 0) check(of_word.writer.operation, true, word * 4);
      for (const WordStamp& reader : of_word.readers) {
        if (writes && (reader.bytes & bytes) != 0) check(reader.operation, false, word * 4);
      }
    });
  }
  if (found == 0) return false;
  *fault = Unordered(cells, AddressOf(cells, row) + at, writes, found_write, found, who.number());
  return true;
}

bool IsOwn(const GlobalCells& cells, uint64_t row, const StreamOperation& who) {
  return KnowsAll(cells.stamps[row], cells.word_stamps + row * kWords, who) &&
         KnowsReleases(cells, row, who);
}

}  // namespace

bool EnterRow(const GlobalCells& cells, uint64_t row, const GlobalAccessor& who) {
  FoldRow(cells, row);
  const bool own = IsOwn(cells, row, *who.operation);
  GlobalRow& record = cells.rows[row];
  record.launch = who.launch;
  record.state = own ? RowState::kOpen : RowState::kContested;
  return own;
}

bool CheckContested(const GlobalCells& cells, uint64_t address, uint64_t size, bool writes,
                    const GlobalAccessor& who, Fault* fault) {
  const uint64_t at = address - cells.start, row = at / kRowBytes;
  if (who.strong) {
    Acquire(cells, row, who.operation);
    if (IsOwn(cells, row, *who.operation)) cells.rows[row].state = RowState::kOpen;
    return false;
  }
  return CheckPart(cells, row, at % kRowBytes, at % kRowBytes + size, writes, *who.operation,
                   fault);
}

void ReleaseRow(const GlobalCells& cells, uint64_t address, const GlobalAccessor& who) {
  const uint64_t row = (address - cells.start) / kRowBytes;
  if (cells.of_host) HostLearns(who.operation->Clock());
  cells.stamps[row].releaser = who.launch;
  Releases& releases = Releases::Get();
  std::lock_guard lock(releases.mu);
  auto& of_row = releases.by_row[AddressOf(cells, row)];
  // An earlier one of the same stream is known by this.
  const auto same = std::find_if(of_row.begin(), of_row.end(), [&](const auto& operation) {
    return operation->stream() == who.operation->stream();
  });
  if (same == of_row.end()) {
    of_row.push_back(who.operation->shared_from_this());
  } else {
    *same = who.operation->shared_from_this();
  }
}

bool CheckRange(const DeviceMemory& memory, uint64_t address, uint64_t size, RangeUse use,
                StreamOperation& operation, Fault* fault) {
  const GlobalCells cells = memory.RegionOf(address, size).cells;
  const bool writes = use != RangeUse::kRead;
  const uint32_t number = operation.number();
  bool wrong = false;
  EachPlace(address, size, [&](uint64_t start, uint64_t part) {
    for (const uint64_t end = start + part; start < end;) {
      const uint64_t at = start - cells.start, row = at / kRowBytes, from = at % kRowBytes;
      const uint64_t to = std::min<uint64_t>(kRowBytes, from + (end - start));
      FoldRow(cells, row);
      wrong = wrong || CheckPart(cells, row, from, to, writes, operation, fault);
      if (use != RangeUse::kFree) StampPart(cells, row, from, to, number, writes);
      start += to - from;
    }
  });
  return wrong;
}

}  // namespace trireme::gpusim
