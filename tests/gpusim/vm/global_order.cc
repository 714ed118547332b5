#include "tests/gpusim/vm/global_order.h"

#include <algorithm>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/grid.h"

namespace trireme::gpusim {
namespace {

bool Ordered(const GlobalCell::Access& access, const GlobalAccessor& who) {
  const uint32_t local = access.agent - who.first_agent;
  if (local >= who.num_agents) {
    return who.foreign->Of(access.agent).Covers(access.lane, access.time);
  }
  if (local == who.local.agent) {
    return access.lane == who.local.lane || access.time <= who.local.lanes_seen;
  }
  return who.local.seen->Of(local).Covers(access.lane, access.time);
}

// Whether two accesses that share bytes have to be ordered at all, and are not.
bool Races(const GlobalCell::Access& before, uint8_t bytes, const GlobalAccessor& who) {
  return (before.bytes & bytes) != 0 && !(before.strong && who.strong) && !Ordered(before, who);
}

Fault RaceWith(const GlobalCell::Access& before, const GlobalAccessor& who, uint64_t word,
               std::string_view doing, std::string_view done) {
  const uint32_t local = before.agent - who.first_agent;
  const std::string whom = local < who.num_agents
                               ? StrCat("agent ", local, " of the cluster")
                               : StrCat("a warp of another cluster (agent ", before.agent, ")");
  return {FindingKind::kRaceGlobal,
          StrCat("global word ", word * 4, " is ", doing, ", not ordered after its ", done, " by ",
                 whom, ", lane ", int{before.lane})};
}

GlobalCell::Access As(const GlobalAccessor& who, uint8_t bytes) {
  return {who.first_agent + who.local.agent, who.local.time, static_cast<uint8_t>(who.local.lane),
          bytes, who.strong};
}

// Calls f(cell, word, bytes of it) until one says true.
template <typename F>
bool EachWord(GlobalCell* cells, uint64_t at, uint32_t size, uint32_t launch, F&& f) {
  const uint64_t end = at + size;
  for (uint64_t word = at / 4; word * 4 < end; ++word, ++cells) {
    const uint64_t first = std::max(at, word * 4) - word * 4;
    const uint64_t last = std::min(end, word * 4 + 4) - word * 4;
    if (cells->launch != launch) *cells = {.launch = launch};
    const auto bytes = static_cast<uint8_t>(((1u << last) - 1) & ~((1u << first) - 1));
    if (f(*cells, word, bytes)) return true;
  }
  return false;
}

// A warp's knowledge, with the numbers of the launch.
SparseClock Flatten(const Knowledge& knowledge, uint32_t first_agent) {
  SparseClock flat = knowledge.foreign;
  for (uint32_t i = 0; i < knowledge.generic.size(); ++i) {
    const Seen& seen = knowledge.generic.Of(i);
    if (seen.all != 0 || seen.some_time != 0) flat.Mutable(first_agent + i).Join(seen);
  }
  return flat;
}

void Learn(Warp& warp, const SparseClock& from) {
  const Cluster& cluster = warp.cta().cluster();
  const uint32_t first = cluster.first_agent();
  from.ForEach([&](uint32_t agent, const Seen& seen) {
    if (agent - first < cluster.num_agents()) {
      warp.knowledge.generic.Mutable(agent - first).Join(seen);
    } else {
      warp.knowledge.foreign.Mutable(agent).Join(seen);
    }
  });
}

}  // namespace

bool CheckGlobalRead(GlobalCell* cells, uint64_t at, uint32_t size, const GlobalAccessor& who,
                     Fault* fault) {
  if (at % 4 == 0 && size % 4 == 0) {  // mostly nobody has written there in this launch
    const GlobalCell::Access mine = As(who, 15);
    const GlobalCell* const end = cells + size / 4;
    for (; cells != end && (cells->launch != who.launch || cells->writer.bytes == 0); ++cells) {
      cells->launch = who.launch;
      cells->writer.bytes = 0;
      cells->reader = mine;
      at += 4;
      size -= 4;
    }
  }
  return EachWord(cells, at, size, who.launch, [&](GlobalCell& cell, uint64_t word, uint8_t bytes) {
    if (Races(cell.writer, bytes, who)) [[unlikely]] {
      *fault = RaceWith(cell.writer, who, word, "read", "write");
      return true;
    }
    cell.reader = As(who, bytes);
    return false;
  });
}

bool CheckGlobalWrite(GlobalCell* cells, uint64_t at, uint32_t size, const GlobalAccessor& who,
                      Fault* fault) {
  return EachWord(cells, at, size, who.launch, [&](GlobalCell& cell, uint64_t word, uint8_t bytes) {
    const bool after_write = Races(cell.writer, bytes, who);
    if (after_write || Races(cell.reader, bytes, who)) [[unlikely]] {
      *fault = RaceWith(after_write ? cell.writer : cell.reader, who, word, "written",
                        after_write ? "write" : "read");
      return true;
    }
    cell.writer = As(who, bytes);
    cell.reader.bytes &= static_cast<uint8_t>(~bytes);
    return false;
  });
}

GlobalAccessor AsGlobalAccessor(const Warp& warp, int lane, bool strong) {
  const Cluster& cluster = warp.cta().cluster();
  return {warp.AsAccessor(lane), warp.grid().launch(),    cluster.first_agent(),
          cluster.num_agents(),  &warp.knowledge.foreign, strong};
}

void FenceGlobal(Warp& warp, LaneMask lanes) {
  Learn(warp, warp.order.observed);
  warp.order.observed.Clear();
  warp.order.released = Flatten(warp.Release(lanes), warp.cta().cluster().first_agent());
}

void HandOver(Warp& warp, uint64_t address, LaneMask lanes, bool release) {
  if (release)
    warp.order.released = Flatten(warp.Release(lanes), warp.cta().cluster().first_agent());
  if (!warp.order.released.empty()) warp.grid().releases()[address].Join(warp.order.released);
}

void TakeOver(Warp& warp, uint64_t address, bool acquire) {
  const auto& releases = warp.grid().releases();
  if (const auto found = releases.find(address); found != releases.end()) {
    warp.order.observed.Join(found->second);
  }
  if (!acquire) return;
  Learn(warp, warp.order.observed);
  warp.order.observed.Clear();
}

}  // namespace trireme::gpusim
