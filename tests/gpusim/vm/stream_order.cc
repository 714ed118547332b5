#include "tests/gpusim/vm/stream_order.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/global_order.h"
#include "tests/gpusim/vm/row_stamps.h"

namespace trireme::gpusim {
namespace {

constexpr uint32_t kWords = kRowBytes / 4;

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
