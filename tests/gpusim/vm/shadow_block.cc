#include "tests/gpusim/vm/shadow_block.h"

#include <algorithm>

#include "runtime/base/strings.h"

namespace trireme::gpusim {
namespace {

// "warp 3, lane 7" as far as an agent of the first CTA's is one; the reader knows the kernel.
std::string Named(uint32_t agent, int lane) { return StrCat("agent ", agent, ", lane ", lane); }

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

int Unordered(const SharedBlock::Writer& writer, uint32_t bytes, const Accessor& who) {
  if (writer.agent == who.agent) {
    if (writer.time <= who.lanes_seen) return -1;
    return FirstWord(SharedBlock::WordsOf(bytes),
                     [&](size_t word) { return writer.lanes[word] != who.lane; });
  }
  const Seen& seen = who.seen->Of(writer.agent);
  if (writer.time <= seen.all) return -1;
  return FirstWord(SharedBlock::WordsOf(bytes),
                   [&](size_t word) { return !seen.Covers(writer.lanes[word], writer.time); });
}

// A generic write is seen by the async proxy behind a fence only, even one of the lane's own.
int Unfenced(const SharedBlock::Writer& writer, uint32_t bytes, const Accessor& who) {
  if (!who.async_proxy || writer.async_proxy) return -1;
  const Seen& fenced = who.fenced->Of(writer.agent);
  if (writer.time <= fenced.all) return -1;
  return FirstWord(SharedBlock::WordsOf(bytes),
                   [&](size_t word) { return !fenced.Covers(writer.lanes[word], writer.time); });
}

int Unordered(const SharedBlock::Reader& reader, uint32_t words, const Accessor& who) {
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

}  // namespace

void SharedBlock::NoteReader(const Part& part, const Accessor& who) {
  const LaneMask lane = LaneMask{1} << who.lane;
  Reader* mine = nullptr;
  for (int i = 0; i < num_readers; ++i) {
    Reader& reader = readers[static_cast<size_t>(i)];
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
    if (num_readers == kMaxReaders) {
      std::move(readers.begin() + 1, readers.end(), readers.begin());
      --num_readers;
    }
    mine = &readers[num_readers++];
    *mine = {who.time, static_cast<uint16_t>(who.agent), {}};
  }
  EachWord(part.words, [&](size_t word) { mine->lanes[word] |= lane; });
}

void SharedBlock::NoteWriter(const Part& part, const Accessor& who, bool atomic) {
  const auto agent = static_cast<uint16_t>(who.agent);
  const auto lane = static_cast<uint8_t>(who.lane);
  const auto bytes = static_cast<uint16_t>(part.bytes);
  defined |= bytes;
  if (part.bytes == kAllBytes) {
    writers[0] = {who.time, agent, bytes, {lane, lane, lane, lane}, atomic, who.async_proxy};
    num_writers = 1;
    num_readers = 0;
    return;
  }
  Writer* mine = nullptr;
  size_t kept = 0;
  for (int i = 0; i < num_writers; ++i) {
    Writer writer = writers[static_cast<size_t>(i)];
    writer.bytes &= static_cast<uint16_t>(~bytes);
    if (writer.bytes == 0) continue;
    Writer& place = writers[kept++] = writer;
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
      std::move(writers.begin() + 1, writers.end(), writers.begin());
      --kept;
    }
    mine = &writers[kept++];
    *mine = {who.time, agent, 0, {}, atomic, who.async_proxy};
  }
  mine->bytes |= bytes;
  EachWord(part.words, [&](size_t word) { mine->lanes[word] = lane; });
  num_writers = static_cast<uint8_t>(kept);
  uint8_t left = 0;
  for (int i = 0; i < num_readers; ++i) {
    Reader reader = readers[static_cast<size_t>(i)];
    EachWord(part.words, [&](size_t word) { reader.lanes[word] = 0; });
    if (Any(reader.lanes)) readers[left++] = reader;
  }
  num_readers = left;
}

void SharedBlock::AddReader(uint32_t time, uint16_t agent,
                            const std::array<LaneMask, kWords>& lanes) {
  for (size_t i = 0; i < num_readers; ++i) {
    if (readers[i].agent != agent || readers[i].time != time) continue;
    for (size_t word = 0; word < kWords; ++word) readers[i].lanes[word] |= lanes[word];
    return;
  }
  if (num_readers == kMaxReaders) {
    std::move(readers.begin() + 1, readers.end(), readers.begin());
    --num_readers;
  }
  readers[num_readers++] = {time, agent, lanes};
}

bool SharedBlock::CheckReadable(const Part& part, const Accessor& who, Fault* fault) const {
  const auto wrong = [&](FindingKind kind, int word, auto... what) {
    *fault = {kind,
              StrCat("shared byte ", (part.first_word + static_cast<uint32_t>(word)) * 4, what...)};
    return true;
  };
  if (Any(writes_in_flight)) {
    const int word = FirstWord(part.words, [&](size_t w) { return writes_in_flight[w] != 0; });
    if (word >= 0 && (mbarrier >> word & 1) != 0) {
      return wrong(FindingKind::kBarrierMisuse, word, " is read and belongs to an mbarrier");
    }
    if (word >= 0) {
      return wrong(FindingKind::kInFlight, word, " is read while a copy into it is in flight");
    }
  }
  if (const uint32_t missing = part.bytes & ~defined; missing != 0) {
    return wrong(FindingKind::kUninitializedShared, std::countr_zero(missing) / 4,
                 " is read and was never written");
  }
  for (int i = 0; i < num_writers; ++i) {
    const Writer& writer = writers[static_cast<size_t>(i)];
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

bool SharedBlock::CheckWritable(const Part& part, const Accessor& who, bool atomic,
                                Fault* fault) const {
  const auto wrong = [&](FindingKind kind, int word, auto... what) {
    *fault = {kind,
              StrCat("shared byte ", (part.first_word + static_cast<uint32_t>(word)) * 4, what...)};
    return true;
  };
  if (const uint32_t words = mbarrier & part.words; words != 0) {
    return wrong(FindingKind::kBarrierMisuse, std::countr_zero(words),
                 " is written and belongs to an mbarrier");
  }
  if (Any(writes_in_flight) || Any(reads_in_flight)) {
    const int word = FirstWord(
        part.words, [&](size_t w) { return writes_in_flight[w] != 0 || reads_in_flight[w] != 0; });
    if (word >= 0) {
      const bool into = writes_in_flight[static_cast<size_t>(word)] != 0;
      return wrong(FindingKind::kInFlight, word, " is written while a copy ",
                   into ? "into" : "out of", " it is in flight");
    }
  }
  for (int i = 0; i < num_writers; ++i) {
    const Writer& writer = writers[static_cast<size_t>(i)];
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
  for (int i = 0; i < num_readers; ++i) {
    const Reader& reader = readers[static_cast<size_t>(i)];
    const int word = Unordered(reader, part.words, who);
    if (word < 0) continue;
    return wrong(FindingKind::kRaceShared, word, " is written, not ordered after its read by ",
                 Named(reader.agent, std::countr_zero(reader.lanes[static_cast<size_t>(word)])));
  }
  return false;
}

}  // namespace trireme::gpusim
