#include "tests/gpusim/vm/shadow.h"

#include <algorithm>
#include <bit>

#include "runtime/base/strings.h"

namespace trireme::gpusim {
namespace {

// "warp 3, lane 7" as far as an agent of the first CTA's is one; the reader knows the kernel.
std::string Named(uint32_t agent, int lane) { return StrCat("agent ", agent, ", lane ", lane); }

// The words of a block that some of these bytes lie in, as bits.
uint32_t WordsOf(uint32_t bytes) {
  bytes |= bytes >> 1;
  bytes = (bytes | bytes >> 2) & 0x1111;
  return (bytes | bytes >> 3 | bytes >> 6 | bytes >> 9) & 15;
}

template <typename T>
bool Any(const std::array<T, 4>& values) {
  return (values[0] | values[1] | values[2] | values[3]) != 0;
}

template <typename F>
void EachWord(uint32_t words, F&& f) {
  for (size_t word = 0; word < 4; ++word) {
    if ((words >> word & 1) != 0) f(word);
  }
}

// The first word of which `is` is true, -1: none.
template <typename F>
int FirstWord(uint32_t words, F&& is) {
  for (size_t word = 0; word < 4; ++word) {
    if ((words >> word & 1) != 0 && is(word)) return static_cast<int>(word);
  }
  return -1;
}

}  // namespace

void SharedShadow::Reset(uint32_t bytes) {
  ++generation_;
  const size_t rows = std::max<size_t>(rows_.size(), (bytes + kRowBytes - 1) / kRowBytes);
  rows_.resize(rows);
  blocks_.resize(rows * kRowBlocks);
}

int SharedShadow::Unordered(const Writer& writer, uint32_t bytes, const Accessor& who) {
  if (writer.agent == who.agent) {
    if (writer.time <= who.lanes_seen) return -1;
    return FirstWord(WordsOf(bytes), [&](size_t word) { return writer.lanes[word] != who.lane; });
  }
  const Seen& seen = who.seen->Of(writer.agent);
  if (writer.time <= seen.all) return -1;
  return FirstWord(WordsOf(bytes),
                   [&](size_t word) { return !seen.Covers(writer.lanes[word], writer.time); });
}

// A generic write is seen by the async proxy behind a fence only, even one of the lane's own.
int SharedShadow::Unfenced(const Writer& writer, uint32_t bytes, const Accessor& who) {
  if (!who.async_proxy || writer.async_proxy) return -1;
  const Seen& fenced = who.fenced->Of(writer.agent);
  if (writer.time <= fenced.all) return -1;
  return FirstWord(WordsOf(bytes),
                   [&](size_t word) { return !fenced.Covers(writer.lanes[word], writer.time); });
}

int SharedShadow::Unordered(const Reader& reader, uint32_t words, const Accessor& who) {
  if (reader.agent == who.agent) {
    if (reader.time <= who.lanes_seen) return -1;
    return FirstWord(
        words, [&](size_t word) { return (reader.lanes[word] & ~(LaneMask{1} << who.lane)) != 0; });
  }
  const Seen& seen = who.seen->Of(reader.agent);
  if (reader.time <= seen.all) return -1;
  const LaneMask covered = reader.time <= seen.some_time ? seen.some : 0;
  return FirstWord(words, [&](size_t word) { return (reader.lanes[word] & ~covered) != 0; });
}

// Calls f(part) until one says true.
template <typename F>
bool SharedShadow::EachPart(uint32_t at, uint32_t size, F&& f) {
  const uint32_t end = at + size;
  for (uint32_t start = at; start < end;) {
    const uint32_t index = start / kBlockBytes, first = start % kBlockBytes;
    const uint32_t last = std::min(end - index * kBlockBytes, kBlockBytes);
    const uint32_t bytes = ((1u << last) - 1) & ~((1u << first) - 1);
    if (f(Part{At(index), index * kWords, bytes, WordsOf(bytes)})) return true;
    start = (index + 1) * kBlockBytes;
  }
  return false;
}

void SharedShadow::NoteReader(const Part& part, const Accessor& who) {
  Block& block = part.block;
  const LaneMask lane = LaneMask{1} << who.lane;
  Reader* mine = nullptr;
  for (int i = 0; i < block.num_readers; ++i) {
    Reader& reader = block.readers[static_cast<size_t>(i)];
    if (reader.agent != who.agent) continue;
    if (reader.time == who.time) {
      mine = &reader;
      continue;
    }
    // Who is ordered after this read is so after those of the agent that it has seen.
    const LaneMask known = reader.time <= who.lanes_seen ? kAllLanes : lane;
    EachWord(part.words, [&](size_t word) { reader.lanes[word] &= ~known; });
    if (!Any(reader.lanes)) {
      reader.time = who.time;
      mine = &reader;
    }
  }
  if (mine == nullptr) {
    if (block.num_readers == kMaxReaders) {
      std::move(block.readers.begin() + 1, block.readers.end(), block.readers.begin());
      --block.num_readers;
    }
    mine = &block.readers[block.num_readers++];
    *mine = {who.time, static_cast<uint16_t>(who.agent), {}};
  }
  EachWord(part.words, [&](size_t word) { mine->lanes[word] |= lane; });
}

void SharedShadow::NoteWriter(const Part& part, const Accessor& who, bool atomic) {
  Block& block = part.block;
  const auto agent = static_cast<uint16_t>(who.agent);
  const auto lane = static_cast<uint8_t>(who.lane);
  const auto bytes = static_cast<uint16_t>(part.bytes);
  block.defined |= bytes;
  if (part.bytes == kAllBytes) {
    block.writers[0] = {who.time, agent, bytes, {lane, lane, lane, lane}, atomic, who.async_proxy};
    block.num_writers = 1;
    block.num_readers = 0;
    return;
  }
  Writer* mine = nullptr;
  size_t kept = 0;
  for (int i = 0; i < block.num_writers; ++i) {
    Writer writer = block.writers[static_cast<size_t>(i)];
    writer.bytes &= static_cast<uint16_t>(~bytes);
    if (writer.bytes == 0) continue;
    Writer& place = block.writers[kept++] = writer;
    const bool same = writer.agent == agent && writer.time == who.time && writer.atomic == atomic &&
                      writer.async_proxy == who.async_proxy;
    const uint32_t shared_words = WordsOf(writer.bytes) & part.words;
    if (same &&
        FirstWord(shared_words, [&](size_t word) { return writer.lanes[word] != lane; }) < 0) {
      mine = &place;
    }
  }
  if (mine == nullptr) {
    if (kept == kMaxWriters) {
      std::move(block.writers.begin() + 1, block.writers.end(), block.writers.begin());
      --kept;
    }
    mine = &block.writers[kept++];
    *mine = {who.time, agent, 0, {}, atomic, who.async_proxy};
  }
  mine->bytes |= bytes;
  EachWord(part.words, [&](size_t word) { mine->lanes[word] = lane; });
  block.num_writers = static_cast<uint8_t>(kept);
  uint8_t readers = 0;
  for (int i = 0; i < block.num_readers; ++i) {
    Reader reader = block.readers[static_cast<size_t>(i)];
    EachWord(part.words, [&](size_t word) { reader.lanes[word] = 0; });
    if (Any(reader.lanes)) block.readers[readers++] = reader;
  }
  block.num_readers = readers;
}

bool SharedShadow::CheckReadable(const Part& part, const Accessor& who, Fault* fault) {
  const Block& block = part.block;
  const auto wrong = [&](FindingKind kind, int word, auto... what) {
    *fault = {kind,
              StrCat("shared byte ", (part.first_word + static_cast<uint32_t>(word)) * 4, what...)};
    return true;
  };
  if (Any(block.writes_in_flight)) {
    const int word =
        FirstWord(part.words, [&](size_t w) { return block.writes_in_flight[w] != 0; });
    if (word >= 0 && (block.mbarrier >> word & 1) != 0) {
      return wrong(FindingKind::kBarrierMisuse, word, " is read and belongs to an mbarrier");
    }
    if (word >= 0) {
      return wrong(FindingKind::kInFlight, word, " is read while a copy into it is in flight");
    }
  }
  if (const uint32_t missing = part.bytes & ~block.defined; missing != 0) {
    return wrong(FindingKind::kUninitializedShared, std::countr_zero(missing) / 4,
                 " is read and was never written");
  }
  for (int i = 0; i < block.num_writers; ++i) {
    const Writer& writer = block.writers[static_cast<size_t>(i)];
    const uint32_t bytes = writer.bytes & part.bytes;
    if (bytes == 0) continue;
    if (const int word = Unordered(writer, bytes, who); word >= 0) {
      return wrong(FindingKind::kRaceShared, word, " is read, not ordered after its write by ",
                   Named(writer.agent, writer.lanes[static_cast<size_t>(word)]));
    }
    if (const int word = Unfenced(writer, bytes, who); word >= 0) {
      return wrong(FindingKind::kMissingProxyFence, word,
                   " is read by the async proxy, written by ",
                   Named(writer.agent, writer.lanes[static_cast<size_t>(word)]),
                   " without fence.proxy.async");
    }
  }
  return false;
}

bool SharedShadow::Read(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  return EachPart(at, size, [&](const Part& part) {
    if (CheckReadable(part, who, fault)) return true;
    NoteReader(part, who);
    return false;
  });
}

bool SharedShadow::CheckRead(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  return EachPart(at, size, [&](const Part& part) { return CheckReadable(part, who, fault); });
}

bool SharedShadow::CheckWritable(const Part& part, const Accessor& who, bool atomic, Fault* fault) {
  const Block& block = part.block;
  const auto wrong = [&](FindingKind kind, int word, auto... what) {
    *fault = {kind,
              StrCat("shared byte ", (part.first_word + static_cast<uint32_t>(word)) * 4, what...)};
    return true;
  };
  if (const uint32_t words = block.mbarrier & part.words; words != 0) {
    return wrong(FindingKind::kBarrierMisuse, std::countr_zero(words),
                 " is written and belongs to an mbarrier");
  }
  if (Any(block.writes_in_flight) || Any(block.reads_in_flight)) {
    const int word = FirstWord(part.words, [&](size_t w) {
      return block.writes_in_flight[w] != 0 || block.reads_in_flight[w] != 0;
    });
    if (word >= 0) {
      const bool into = block.writes_in_flight[static_cast<size_t>(word)] != 0;
      return wrong(FindingKind::kInFlight, word, " is written while a copy ",
                   into ? "into" : "out of", " it is in flight");
    }
  }
  for (int i = 0; i < block.num_writers; ++i) {
    const Writer& writer = block.writers[static_cast<size_t>(i)];
    const uint32_t bytes = writer.bytes & part.bytes;
    if (bytes == 0 || (atomic && writer.atomic)) continue;
    if (const int word = Unordered(writer, bytes, who); word >= 0) {
      return wrong(FindingKind::kRaceShared, word, " is written, not ordered after its write by ",
                   Named(writer.agent, writer.lanes[static_cast<size_t>(word)]));
    }
    if (const int word = Unfenced(writer, bytes, who); word >= 0) {
      return wrong(FindingKind::kMissingProxyFence, word,
                   " is written by the async proxy and before by ",
                   Named(writer.agent, writer.lanes[static_cast<size_t>(word)]),
                   " without fence.proxy.async");
    }
  }
  for (int i = 0; i < block.num_readers; ++i) {
    const Reader& reader = block.readers[static_cast<size_t>(i)];
    const int word = Unordered(reader, part.words, who);
    if (word < 0) continue;
    return wrong(FindingKind::kRaceShared, word, " is written, not ordered after its read by ",
                 Named(reader.agent, std::countr_zero(reader.lanes[static_cast<size_t>(word)])));
  }
  return false;
}

bool SharedShadow::Write(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  return EachPart(at, size, [&](const Part& part) {
    if (CheckWritable(part, who, false, fault)) return true;
    NoteWriter(part, who, false);
    return false;
  });
}

bool SharedShadow::CheckFree(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  return EachPart(at, size,
                  [&](const Part& part) { return CheckWritable(part, who, false, fault); });
}

bool SharedShadow::Atomic(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  return EachPart(at, size, [&](const Part& part) {
    if ((part.bytes & ~part.block.defined) != 0) {
      *fault = {FindingKind::kUninitializedShared,
                StrCat("shared byte ", at, " is read and was never written")};
      return true;
    }
    if (CheckWritable(part, who, true, fault)) return true;
    NoteWriter(part, who, true);
    return false;
  });
}

void SharedShadow::BeginWrite(uint32_t at, uint32_t size) {
  EachPart(at, size, [](const Part& part) {
    EachWord(part.words, [&](size_t word) { ++part.block.writes_in_flight[word]; });
    return false;
  });
}

void SharedShadow::EndWrite(uint32_t at, uint32_t size, const Accessor& as) {
  EachPart(at, size, [&](const Part& part) {
    EachWord(part.words, [&](size_t word) { --part.block.writes_in_flight[word]; });
    NoteWriter(part, as, false);
    return false;
  });
}

void SharedShadow::BeginRead(uint32_t at, uint32_t size) {
  EachPart(at, size, [](const Part& part) {
    EachWord(part.words, [&](size_t word) { ++part.block.reads_in_flight[word]; });
    return false;
  });
}

void SharedShadow::EndRead(uint32_t at, uint32_t size, const Accessor& as) {
  EachPart(at, size, [&](const Part& part) {
    EachWord(part.words, [&](size_t word) { --part.block.reads_in_flight[word]; });
    NoteReader(part, as);
    return false;
  });
}

void SharedShadow::SetMbarrier(uint32_t at, uint32_t size, bool is_mbarrier) {
  EachPart(at, size, [&](const Part& part) {
    Block& block = part.block;
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
