#include "tests/gpusim/vm/shadow.h"

#include <algorithm>
#include <bit>
#include <mutex>
#include <utility>

#include "runtime/base/strings.h"

namespace trireme::gpusim {
namespace {

// What CTAs have left: new memory would cost more than many a CTA does.
struct Left {
  std::vector<SharedBlock> blocks;
  std::vector<SharedRow> rows;
  uint32_t generation = 0;
};
constexpr size_t kMostLeft = 8;
struct AllLeft {
  std::mutex mu;
  std::vector<Left> all;

  static AllLeft& Get() {
    static AllLeft* const left = new AllLeft();
    return *left;
  }
};

template <typename F>
void EachWord(uint32_t words, F&& f) {
  for (size_t word = 0; word < SharedBlock::kWords; ++word) {
    if ((words >> word & 1) != 0) f(word);
  }
}

}  // namespace

SharedShadow::~SharedShadow() {
  if (rows_.empty()) return;
  AllLeft& left = AllLeft::Get();
  std::lock_guard lock(left.mu);
  if (left.all.size() < kMostLeft) {
    left.all.push_back({std::move(blocks_), std::move(rows_), generation_});
  }
}

void SharedShadow::Reset(uint32_t bytes) {
  if (rows_.empty()) {
    AllLeft& left = AllLeft::Get();
    std::lock_guard lock(left.mu);
    if (!left.all.empty()) {
      blocks_ = std::move(left.all.back().blocks);
      rows_ = std::move(left.all.back().rows);
      generation_ = left.all.back().generation;
      left.all.pop_back();
    }
  }
  ++generation_;
  const size_t rows = std::max<size_t>(rows_.size(), (bytes + kRowBytes - 1) / kRowBytes);
  rows_.resize(rows);
  blocks_.resize(rows * kRowBlocks);
}

// Calls f(block, part) until one says true.
template <typename F>
bool SharedShadow::EachPart(uint32_t at, uint32_t size, F&& f) {
  const uint32_t end = at + size;
  for (uint32_t start = at; start < end;) {
    const uint32_t index = start / kBlockBytes, first = start % kBlockBytes;
    const uint32_t last = std::min(end - index * kBlockBytes, kBlockBytes);
    const uint32_t bytes = ((1u << last) - 1) & ~((1u << first) - 1);
    const Part part = {index * SharedBlock::kWords, bytes, SharedBlock::WordsOf(bytes)};
    if (f(At(index), part)) return true;
    start = (index + 1) * kBlockBytes;
  }
  return false;
}

bool SharedShadow::Read(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  return EachPart(at, size, [&](SharedBlock& block, const Part& part) {
    if (block.CheckReadable(part, who, fault)) return true;
    block.NoteReader(part, who);
    return false;
  });
}

bool SharedShadow::CheckRead(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  if (IsChunk(at, size)) {
    const SharedRow* const row = Whole(at);
    if (row != nullptr && row->IsReadable(ChunkOf(at), who)) return false;
  }
  return EachPart(at, size, [&](const SharedBlock& block, const Part& part) {
    return block.CheckReadable(part, who, fault);
  });
}

bool SharedShadow::Write(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  return EachPart(at, size, [&](SharedBlock& block, const Part& part) {
    if (block.CheckWritable(part, who, false, fault)) return true;
    block.NoteWriter(part, who, false);
    return false;
  });
}

bool SharedShadow::CheckFree(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  return EachPart(at, size, [&](const SharedBlock& block, const Part& part) {
    return block.CheckWritable(part, who, false, fault);
  });
}

bool SharedShadow::Atomic(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  return EachPart(at, size, [&](SharedBlock& block, const Part& part) {
    if ((part.bytes & ~block.defined) != 0) {
      *fault = {FindingKind::kUninitializedShared,
                StrCat("shared byte ", at, " is read and was never written")};
      return true;
    }
    if (block.CheckWritable(part, who, true, fault)) return true;
    block.NoteWriter(part, who, true);
    return false;
  });
}

void SharedShadow::BeginWrite(uint32_t at, uint32_t size) {
  EachPart(at, size, [](SharedBlock& block, const Part& part) {
    EachWord(part.words, [&](size_t word) { ++block.writes_in_flight[word]; });
    return false;
  });
}

void SharedShadow::EndWrite(uint32_t at, uint32_t size, const Accessor& as) {
  EachPart(at, size, [&](SharedBlock& block, const Part& part) {
    EachWord(part.words, [&](size_t word) { --block.writes_in_flight[word]; });
    block.NoteWriter(part, as, false);
    return false;
  });
}

void SharedShadow::BeginRead(uint32_t at, uint32_t size) {
  if (IsChunk(at, size)) {
    if (SharedRow* const row = Whole(at)) {
      ++row->reads_in_flight[ChunkOf(at)];
      return;
    }
  }
  EachPart(at, size, [](SharedBlock& block, const Part& part) {
    EachWord(part.words, [&](size_t word) { ++block.reads_in_flight[word]; });
    return false;
  });
}

void SharedShadow::EndRead(uint32_t at, uint32_t size, const Accessor& as) {
  if (IsChunk(at, size)) {
    SharedRow* const row = Whole(at);
    if (row != nullptr && row->NoteReader(ChunkOf(at), as)) {
      --row->reads_in_flight[ChunkOf(at)];
      return;
    }
  }
  EachPart(at, size, [&](SharedBlock& block, const Part& part) {
    EachWord(part.words, [&](size_t word) { --block.reads_in_flight[word]; });
    block.NoteReader(part, as);
    return false;
  });
}

void SharedShadow::SetMbarrier(uint32_t at, uint32_t size, bool is_mbarrier) {
  EachPart(at, size, [&](SharedBlock& block, const Part& part) {
    EachWord(part.words, [&](size_t word) {
      const auto bit = static_cast<uint8_t>(1u << word);
      if (((block.mbarrier & bit) != 0) == is_mbarrier) return;
      block.mbarrier ^= bit;
      block.defined &= static_cast<uint16_t>(~(15u << 4 * word));
      if (is_mbarrier) {
        ++block.writes_in_flight[word];
      } else {
        --block.writes_in_flight[word];
      }
    });
    return false;
  });
}

}  // namespace trireme::gpusim
