#include "tests/gpusim/vm/registers.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <map>
#include <set>
#include <utility>

namespace trireme::gpusim {
namespace {

constexpr uint32_t kNever = std::numeric_limits<uint32_t>::max();

class Bits {
 public:
  explicit Bits(size_t n) : words_((n + 63) / 64) {}
  void Set(size_t i) { words_[i / 64] |= uint64_t{1} << (i % 64); }
  void Clear(size_t i) { words_[i / 64] &= ~(uint64_t{1} << (i % 64)); }
  // this |= other; whether that changed anything.
  bool Join(const Bits& other) {
    bool changed = false;
    for (size_t i = 0; i < words_.size(); ++i) {
      changed |= (other.words_[i] & ~words_[i]) != 0;
      words_[i] |= other.words_[i];
    }
    return changed;
  }
  template <typename F>
  void ForEach(F&& f) const {
    for (size_t w = 0; w < words_.size(); ++w) {
      for (uint64_t rest = words_[w]; rest != 0; rest &= rest - 1) {
        f(w * 64 + static_cast<size_t>(std::countr_zero(rest)));
      }
    }
  }

 private:
  std::vector<uint64_t> words_;
};

bool Branches(const Op& op) { return op.text->parts[0] == "bra"; }
bool Ends(const Op& op) { return op.text->parts[0] == "ret" || op.text->parts[0] == "exit"; }
bool IsAsync(const Op& op) {
  return op.text->parts[0] == "wgmma" || op.text->parts[0] == "tcgen05";
}

// [first, last] operations, one after the other.
struct Block {
  uint32_t first = 0, last = 0;
  std::vector<size_t> next;
  Bits live_in, live_out;
};

// The first and last operation where a register holds a value.
struct Interval {
  uint32_t first = kNever, last = 0;
  void Cover(uint32_t at) {
    first = std::min(first, at);
    last = std::max(last, at);
  }
};

class Planner {
 public:
  Planner(const std::vector<Op>& ops, const std::vector<uint32_t>& bytes)
      : ops_(ops), bytes_(bytes), intervals_(bytes.size()), own_place_(bytes.size(), false) {}

  RegisterPlan Run() {
    CutIntoBlocks();
    FindLive();
    FindIntervals();
    return Assign();
  }

 private:
  bool IsRegister(const Slot& slot) const { return slot.index < bytes_.size(); }
  template <typename F>
  void EachUse(const Op& op, F&& f) const {
    for (int i = 0; i < op.num_src; ++i) {
      if (IsRegister(op.src[i])) f(op.src[i].index);
    }
    if (op.guarded) f(op.guard.index);
  }
  template <typename F>
  void EachDefinition(const Op& op, F&& f) const {
    for (int i = 0; i < op.num_dst; ++i) {
      if (IsRegister(op.dst[i])) f(op.dst[i].index);
    }
  }

  void CutIntoBlocks();
  void FindLive();
  void FindIntervals();
  RegisterPlan Assign() const;

  const std::vector<Op>& ops_;
  const std::vector<uint32_t>& bytes_;
  std::vector<Block> blocks_;
  std::vector<Interval> intervals_;
  std::vector<bool> own_place_;
};

void Planner::CutIntoBlocks() {
  std::set<uint32_t> starts = {0};
  const uint32_t end = static_cast<uint32_t>(ops_.size());
  for (uint32_t i = 0; i < end; ++i) {
    if (Branches(ops_[i])) starts.insert(ops_[i].target);
    if (Branches(ops_[i]) || Ends(ops_[i])) starts.insert(i + 1);
  }
  starts.erase(starts.lower_bound(end), starts.end());
  std::map<uint32_t, size_t> index;
  for (const uint32_t start : starts) {
    index[start] = blocks_.size();
    if (!blocks_.empty()) blocks_.back().last = start - 1;
    blocks_.push_back({start, end - 1, {}, Bits(bytes_.size()), Bits(bytes_.size())});
  }
  for (size_t b = 0; b < blocks_.size(); ++b) {
    const Op& op = ops_[blocks_[b].last];
    const bool stops = (Branches(op) || Ends(op)) && !op.guarded;
    if (Branches(op) && op.target < end) blocks_[b].next.push_back(index[op.target]);
    if (!stops && b + 1 < blocks_.size()) blocks_[b].next.push_back(b + 1);
  }
}

void Planner::FindLive() {
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t b = blocks_.size(); b-- > 0;) {
      Block& block = blocks_[b];
      for (const size_t next : block.next) block.live_out.Join(blocks_[next].live_in);
      Bits live = block.live_out;
      for (uint32_t i = block.last + 1; i-- > block.first;) {
        // A predicated instruction may leave the old value where it is.
        if (!ops_[i].guarded) EachDefinition(ops_[i], [&](size_t r) { live.Clear(r); });
        EachUse(ops_[i], [&](size_t r) { live.Set(r); });
      }
      changed |= block.live_in.Join(live);
    }
  }
}

void Planner::FindIntervals() {
  for (const Block& block : blocks_) {
    block.live_in.ForEach([&](size_t r) { intervals_[r].Cover(block.first); });
    block.live_out.ForEach([&](size_t r) { intervals_[r].Cover(block.last); });
    for (uint32_t i = block.first; i <= block.last; ++i) {
      const auto cover = [&](size_t r) {
        intervals_[r].Cover(i);
        if (IsAsync(ops_[i])) own_place_[r] = true;
      };
      EachUse(ops_[i], cover);
      EachDefinition(ops_[i], cover);
    }
  }
  blocks_[0].live_in.ForEach([&](size_t r) { own_place_[r] = true; });
}

// Linear scan (Poletto and Sarkar 1999), one pool of places for each size.
RegisterPlan Planner::Assign() const {
  RegisterPlan plan;
  plan.place.assign(bytes_.size(), 0);
  std::vector<size_t> order;
  for (size_t r = 0; r < bytes_.size(); ++r) {
    if (intervals_[r].first != kNever) order.push_back(r);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return intervals_[a].first < intervals_[b].first; });
  std::map<uint32_t, std::vector<uint32_t>> free_places;  // by bytes
  std::multimap<uint32_t, size_t> busy;                   // last -> register
  for (const size_t r : order) {
    // Strictly before: an operation's sources and destinations never share.
    while (!busy.empty() && busy.begin()->first < intervals_[r].first) {
      const size_t done = busy.begin()->second;
      free_places[bytes_[done]].push_back(plan.place[done]);
      busy.erase(busy.begin());
    }
    auto& pool = free_places[bytes_[r]];
    if (pool.empty() || own_place_[r]) {
      plan.place[r] = static_cast<uint32_t>(plan.place_bytes.size());
      plan.place_bytes.push_back(bytes_[r]);
    } else {
      plan.place[r] = pool.back();
      pool.pop_back();
    }
    if (!own_place_[r]) busy.emplace(intervals_[r].last, r);
  }
  return plan;
}

}  // namespace

RegisterPlan PlanRegisters(const std::vector<Op>& ops, const std::vector<uint32_t>& bytes) {
  return Planner(ops, bytes).Run();
}

}  // namespace trireme::gpusim
