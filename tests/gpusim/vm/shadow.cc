#include "tests/gpusim/vm/shadow.h"

#include <algorithm>

#include "runtime/base/strings.h"

namespace trireme::gpusim {
namespace {

// "warp 3, lane 7" as far as an agent of the first CTA's is one; the reader knows the kernel.
std::string Named(uint32_t agent, int lane) { return StrCat("agent ", agent, ", lane ", lane); }

}  // namespace

void SharedShadow::Reset(uint32_t bytes) {
  ++generation_;
  cells_.resize(std::max<size_t>(cells_.size(), (bytes + 3) / 4));
}

bool SharedShadow::Ordered(const Writer& writer, const Accessor& who) {
  return who.HasSeen(writer.agent, writer.lane, writer.time);
}

// A generic write is seen by the async proxy behind a fence only, even one of the lane's own.
bool SharedShadow::Fenced(const Writer& writer, const Accessor& who) {
  return !who.async_proxy || writer.async_proxy ||
         who.fenced->Of(writer.agent).Covers(writer.lane, writer.time);
}

bool SharedShadow::Ordered(const Reader& reader, const Accessor& who) {
  if (reader.agent == who.agent) {
    return reader.lanes == LaneMask{1} << who.lane || reader.time <= who.lanes_seen;
  }
  const Seen& seen = who.seen->Of(reader.agent);
  return reader.time <= seen.all ||
         ((reader.lanes & ~seen.some) == 0 && reader.time <= seen.some_time);
}

// Calls f(word, bytes of it) until one says true.
template <typename F>
bool SharedShadow::EachWord(uint32_t at, uint32_t size, F&& f) {
  const uint32_t end = at + size;
  for (uint32_t word = at / 4; word * 4 < end; ++word) {
    const uint32_t first = std::max(at, word * 4) - word * 4;
    const uint32_t last = std::min(end, word * 4 + 4) - word * 4;
    if (f(word, static_cast<uint8_t>(((1u << last) - 1) & ~((1u << first) - 1)))) return true;
  }
  return false;
}

void SharedShadow::NoteReader(Cell* cell, const Accessor& who) {
  const LaneMask lane = LaneMask{1} << who.lane;
  for (int i = 0; i < cell->num_readers; ++i) {
    Reader& reader = cell->readers[static_cast<size_t>(i)];
    if (reader.agent != who.agent) continue;
    if (reader.time == who.time) {
      reader.lanes |= lane;
      return;
    }
    if (reader.lanes == lane) {
      reader.time = who.time;
      return;
    }
  }
  // Without room the oldest is forgotten: an error may be missed.
  if (cell->num_readers == kMaxReaders) {
    std::move(cell->readers.begin() + 1, cell->readers.end(), cell->readers.begin());
    --cell->num_readers;
  }
  cell->readers[cell->num_readers++] = {who.time, lane, static_cast<uint16_t>(who.agent)};
}

void SharedShadow::NoteWriter(Cell* cell, uint8_t bytes, const Accessor& who, bool atomic) {
  int kept = 0;
  for (int i = 0; i < cell->num_writers; ++i) {
    Writer writer = cell->writers[static_cast<size_t>(i)];
    writer.bytes &= static_cast<uint8_t>(~bytes & 15);
    if (writer.bytes != 0) cell->writers[static_cast<size_t>(kept++)] = writer;
  }
  Writer& mine = cell->writers[static_cast<size_t>(kept++)];
  mine.agent = static_cast<uint16_t>(who.agent);
  mine.lane = static_cast<uint8_t>(who.lane);
  mine.bytes = bytes & 15;
  mine.atomic = atomic;
  mine.async_proxy = who.async_proxy;
  mine.time = who.time;
  cell->num_writers = static_cast<uint8_t>(kept);
  cell->num_readers = 0;
  cell->defined |= bytes;
}

bool SharedShadow::CheckReadable(const Cell& cell, uint32_t word, uint8_t bytes,
                                 const Accessor& who, Fault* fault) {
  if (cell.writes_in_flight != 0) {
    *fault =
        cell.mbarrier
            ? Fault{FindingKind::kBarrierMisuse,
                    StrCat("shared byte ", word * 4, " is read and belongs to an mbarrier")}
            : Fault{FindingKind::kInFlight,
                    StrCat("shared byte ", word * 4, " is read while a copy into it is in flight")};
    return true;
  }
  if ((bytes & ~cell.defined) != 0) {
    *fault = {FindingKind::kUninitializedShared,
              StrCat("shared byte ", word * 4, " is read and was never written")};
    return true;
  }
  for (int i = 0; i < cell.num_writers; ++i) {
    const Writer& writer = cell.writers[static_cast<size_t>(i)];
    if ((writer.bytes & bytes) == 0) continue;
    if (!Ordered(writer, who)) {
      *fault = {FindingKind::kRaceShared,
                StrCat("shared byte ", word * 4, " is read, not ordered after its write by ",
                       Named(writer.agent, writer.lane))};
      return true;
    }
    if (!Fenced(writer, who)) {
      *fault = {FindingKind::kMissingProxyFence,
                StrCat("shared byte ", word * 4, " is read by the async proxy, written by ",
                       Named(writer.agent, writer.lane), " without fence.proxy.async")};
      return true;
    }
  }
  return false;
}

bool SharedShadow::Read(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  return EachWord(at, size, [&](uint32_t word, uint8_t bytes) {
    Cell& cell = At(word);
    if (CheckReadable(cell, word, bytes, who, fault)) return true;
    NoteReader(&cell, who);
    return false;
  });
}

bool SharedShadow::CheckRead(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  return EachWord(at, size, [&](uint32_t word, uint8_t bytes) {
    return CheckReadable(At(word), word, bytes, who, fault);
  });
}

bool SharedShadow::CheckWritable(const Cell& cell, uint32_t word, uint8_t bytes,
                                 const Accessor& who, bool atomic, Fault* fault) {
  if (cell.mbarrier) {
    *fault = {FindingKind::kBarrierMisuse,
              StrCat("shared byte ", word * 4, " is written and belongs to an mbarrier")};
    return true;
  }
  if (cell.writes_in_flight != 0 || cell.reads_in_flight != 0) {
    *fault = {FindingKind::kInFlight,
              StrCat("shared byte ", word * 4, " is written while a copy ",
                     cell.writes_in_flight != 0 ? "into" : "out of", " it is in flight")};
    return true;
  }
  for (int i = 0; i < cell.num_writers; ++i) {
    const Writer& writer = cell.writers[static_cast<size_t>(i)];
    if ((writer.bytes & bytes) == 0 || (atomic && writer.atomic)) continue;
    if (!Ordered(writer, who)) {
      *fault = {FindingKind::kRaceShared,
                StrCat("shared byte ", word * 4, " is written, not ordered after its write by ",
                       Named(writer.agent, writer.lane))};
      return true;
    }
    if (!Fenced(writer, who)) {
      *fault = {FindingKind::kMissingProxyFence,
                StrCat("shared byte ", word * 4, " is written by the async proxy and before by ",
                       Named(writer.agent, writer.lane), " without fence.proxy.async")};
      return true;
    }
  }
  for (int i = 0; i < cell.num_readers; ++i) {
    const Reader& reader = cell.readers[static_cast<size_t>(i)];
    if (Ordered(reader, who)) continue;
    *fault = {FindingKind::kRaceShared,
              StrCat("shared byte ", word * 4, " is written, not ordered after its read by ",
                     Named(reader.agent, std::countr_zero(reader.lanes)))};
    return true;
  }
  return false;
}

bool SharedShadow::Write(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  return EachWord(at, size, [&](uint32_t word, uint8_t bytes) {
    Cell& cell = At(word);
    if (CheckWritable(cell, word, bytes, who, false, fault)) return true;
    NoteWriter(&cell, bytes, who, false);
    return false;
  });
}

bool SharedShadow::CheckFree(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  return EachWord(at, size, [&](uint32_t word, uint8_t bytes) {
    return CheckWritable(At(word), word, bytes, who, false, fault);
  });
}

bool SharedShadow::Atomic(uint32_t at, uint32_t size, const Accessor& who, Fault* fault) {
  return EachWord(at, size, [&](uint32_t word, uint8_t bytes) {
    Cell& cell = At(word);
    if ((bytes & ~cell.defined) != 0) {
      *fault = {FindingKind::kUninitializedShared,
                StrCat("shared byte ", word * 4, " is read and was never written")};
      return true;
    }
    if (CheckWritable(cell, word, bytes, who, true, fault)) return true;
    NoteWriter(&cell, bytes, who, true);
    return false;
  });
}

void SharedShadow::BeginWrite(uint32_t at, uint32_t size) {
  EachWord(at, size, [&](uint32_t word, uint8_t) {
    ++At(word).writes_in_flight;
    return false;
  });
}

void SharedShadow::EndWrite(uint32_t at, uint32_t size, const Accessor& as) {
  EachWord(at, size, [&](uint32_t word, uint8_t bytes) {
    Cell& cell = At(word);
    --cell.writes_in_flight;
    NoteWriter(&cell, bytes, as, false);
    return false;
  });
}

void SharedShadow::BeginRead(uint32_t at, uint32_t size) {
  EachWord(at, size, [&](uint32_t word, uint8_t) {
    ++At(word).reads_in_flight;
    return false;
  });
}

void SharedShadow::EndRead(uint32_t at, uint32_t size, const Accessor& as) {
  EachWord(at, size, [&](uint32_t word, uint8_t) {
    Cell& cell = At(word);
    --cell.reads_in_flight;
    NoteReader(&cell, as);
    return false;
  });
}

void SharedShadow::SetMbarrier(uint32_t at, uint32_t size, bool is_mbarrier) {
  EachWord(at, size, [&](uint32_t word, uint8_t) {
    Cell& cell = At(word);
    if (cell.mbarrier == is_mbarrier) return false;
    cell.mbarrier = is_mbarrier;
    cell.defined = 0;
    if (is_mbarrier) {
      ++cell.writes_in_flight;
    } else {
      --cell.writes_in_flight;
    }
    return false;
  });
}

}  // namespace trireme::gpusim
