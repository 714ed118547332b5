#include "tests/gpusim/vm/global_order.h"

#include <algorithm>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/grid.h"

namespace trireme::gpusim {
namespace {

Fault RaceWith(const GlobalAccess& before, const GlobalAccessor& who, uint64_t word,
               std::string_view doing, std::string_view done) {
  const uint32_t local = before.agent - who.first_agent;
  const std::string whom = StrCat(
      before.async_proxy ? "a bulk copy of " : "",
      local < who.num_agents ? StrCat("agent ", local, " of the cluster")
                             : StrCat("a warp of another cluster (agent ", before.agent, ")"));
  return {FindingKind::kRaceGlobal,
          StrCat("global word ", word * 4, " is ", doing, ", not ordered after its ", done, " by ",
                 whom, ", lane ", int{before.lane})};
}

Fault MissingFence(const GlobalAccess& before, uint64_t word, std::string_view doing) {
  return {FindingKind::kMissingProxyFence,
          StrCat("global word ", word * 4, " is ", doing, " by the async proxy, written by agent ",
                 before.agent, " of the launch, lane ", int{before.lane},
                 " without fence.proxy.async")};
}

// False: the accesses are not in order with what other operations did there.
bool EnterBlock(const GlobalCells& cells, uint64_t address, uint64_t size, bool writes,
                const GlobalAccessor& who, Fault* fault) {
  return BlockOf(cells, address, who) != nullptr ||
         !CheckContested(cells, address, size, writes, who, fault);
}

// Calls whole_block(block) for blocks that are touched as a whole. For others, and where it says
// false, one_word(word, its number, bytes of it), until that says true.
template <typename F, typename G>
bool EachBlock(const GlobalCells& cells, uint64_t address, uint32_t size, bool writes,
               const GlobalAccessor& who, Fault* fault, F&& whole_block, G&& one_word) {
  const uint32_t launch = who.launch;
  constexpr uint32_t kBytes = GlobalBlock::kBytes;
  const uint64_t end = address + size;
  while (address < end) {
    const uint64_t index = (address - cells.start) / kBytes;
    const uint64_t first = address / kBytes * kBytes, next = std::min(end, first + kBytes);
    if (!EnterBlock(cells, address, next - address, writes, who, fault)) [[unlikely]]
      return true;
    GlobalBlock& block = cells.blocks[index];
    const bool whole = next - address == kBytes;
    if (whole && whole_block(&block)) {
      address = next;
      continue;
    }
    GlobalWord* const words = cells.words + index * GlobalBlock::kWords;
    if (block.launch != launch) block = {.launch = launch};
    if (!block.by_words)
      std::fill_n(words, GlobalBlock::kWords, GlobalWord{block.writer, block.reader});
    block.by_words = true;
    for (uint64_t word = address / 4; word * 4 < next; ++word) {
      const uint64_t from = std::max(address, word * 4) % 4;
      const uint64_t to = std::min(next - word * 4, uint64_t{4});
      const auto bytes = static_cast<uint8_t>(((1u << to) - 1) & ~((1u << from) - 1));
      if (one_word(&words[word % GlobalBlock::kWords], word, bytes)) return true;
    }
    // Whoever has touched all of it alone is the same for its words.
    const auto same = [](const GlobalAccess& a, const GlobalAccess& b) {
      return a.bytes == b.bytes && (a.bytes == 0 || (a.agent == b.agent && a.time == b.time &&
                                                     a.lane == b.lane && a.strong == b.strong));
    };
    if (whole && std::all_of(words + 1, words + GlobalBlock::kWords, [&](const GlobalWord& word) {
          return same(word.writer, words[0].writer) && same(word.reader, words[0].reader);
        })) {
      block = {launch, false, words[0].writer, words[0].reader};
    }
    address = next;
  }
  return false;
}

SparseClock Flatten(const Clock& own, const SparseClock& foreign, uint32_t first_agent) {
  SparseClock flat = foreign;
  for (uint32_t i = 0; i < own.size(); ++i) {
    const Seen& seen = own.Of(i);
    if (seen.all != 0 || seen.some_time != 0) flat.Mutable(first_agent + i).Join(seen);
  }
  return flat;
}

GlobalKnowledge Flatten(const Knowledge& knowledge, uint32_t first_agent) {
  return {Flatten(knowledge.generic, knowledge.foreign, first_agent),
          Flatten(knowledge.async_global, knowledge.async_foreign, first_agent)};
}

// The reverse.
void Learn(const SparseClock& from, const Cluster& cluster, Clock* own, SparseClock* foreign) {
  const uint32_t first = cluster.first_agent();
  from.ForEach([&](uint32_t agent, const Seen& seen) {
    if (agent - first < cluster.num_agents()) {
      own->Mutable(agent - first).Join(seen);
    } else {
      foreign->Mutable(agent).Join(seen);
    }
  });
}

void Learn(Warp& warp, const GlobalKnowledge& from) {
  const Cluster& cluster = warp.cta().cluster();
  Knowledge& knowledge = warp.knowledge;
  Learn(from.seen, cluster, &knowledge.generic, &knowledge.foreign);
  Learn(from.fenced, cluster, &knowledge.async_global, &knowledge.async_foreign);
}

}  // namespace

bool CheckGlobalRead(const GlobalCells& cells, uint64_t address, uint32_t size,
                     const GlobalAccessor& who, Fault* fault) {
  return EachBlock(
      cells, address, size, false, who, fault,
      [&](GlobalBlock* block) {
        const bool fenced = block->launch != who.launch || !who.IsUnfenced(block->writer, 15);
        return fenced && ReadBlock(block, who);
      },
      [&](GlobalWord* cell, uint64_t word, uint8_t bytes) {
        if (who.RacesWith(cell->writer, bytes)) [[unlikely]] {
          *fault = RaceWith(cell->writer, who, word, "read", "write");
          return true;
        }
        if (who.IsUnfenced(cell->writer, bytes)) [[unlikely]] {
          *fault = MissingFence(cell->writer, word, "read");
          return true;
        }
        cell->reader = who.As(bytes);
        return false;
      });
}

bool CheckGlobalWrite(const GlobalCells& cells, uint64_t address, uint32_t size,
                      const GlobalAccessor& who, Fault* fault) {
  return EachBlock(
      cells, address, size, true, who, fault,
      [&](GlobalBlock* block) {
        const bool fenced = block->launch != who.launch || !who.IsUnfenced(block->writer, 15);
        return fenced && WriteBlock(block, who);
      },
      [&](GlobalWord* cell, uint64_t word, uint8_t bytes) {
        const bool after_write = who.RacesWith(cell->writer, bytes);
        if (after_write || who.RacesWith(cell->reader, bytes)) [[unlikely]] {
          *fault = RaceWith(after_write ? cell->writer : cell->reader, who, word, "written",
                            after_write ? "write" : "read");
          return true;
        }
        if (who.IsUnfenced(cell->writer, bytes)) [[unlikely]] {
          *fault = MissingFence(cell->writer, word, "written");
          return true;
        }
        cell->writer = who.As(bytes);
        cell->reader.bytes &= static_cast<uint8_t>(~bytes);
        return false;
      });
}

void GlobalReleases::Add(uint64_t address, const GlobalKnowledge& what) {
  std::lock_guard lock(mu_);
  by_address_[address].Join(what);
}

void GlobalReleases::Take(uint64_t address, GlobalKnowledge* into) const {
  std::lock_guard lock(mu_);
  const auto found = by_address_.find(address);
  if (found != by_address_.end()) into->Join(found->second);
}

GlobalAccessor AsGlobalAccessor(const Warp& warp, int lane, bool strong) {
  const Cluster& cluster = warp.cta().cluster();
  return {warp.AsAccessor(lane),   warp.grid().launch(),    cluster.first_agent(),
          cluster.num_agents(),    &warp.knowledge.foreign, strong,
          &warp.grid().operation()};
}

GlobalAccessor AsCopy(const Warp& warp, const Knowledge& known, uint32_t agent, int lane,
                      uint32_t time, bool strong) {
  GlobalAccessor who = AsGlobalAccessor(warp, lane, strong);
  who.local = {.agent = agent, .lane = lane, .time = time, .seen = &known.generic};
  who.foreign = &known.foreign;
  who.copy = &known;
  return who;
}

void FenceGlobal(Warp& warp, LaneMask lanes) {
  Learn(warp, warp.order.observed);
  warp.order.observed.Clear();
  warp.order.released = Flatten(warp.Release(lanes), warp.cta().cluster().first_agent());
}

void HandOver(Warp& warp, uint64_t address, LaneMask lanes, bool release) {
  if (release)
    warp.order.released = Flatten(warp.Release(lanes), warp.cta().cluster().first_agent());
  if (!warp.order.released.seen.empty()) warp.grid().releases().Add(address, warp.order.released);
}

void TakeOver(Warp& warp, uint64_t address, bool acquire) {
  warp.grid().releases().Take(address, &warp.order.observed);
  if (!acquire) return;
  Learn(warp, warp.order.observed);
  warp.order.observed.Clear();
}

}  // namespace trireme::gpusim
