#include "runtime/text/bpe.h"

#include <algorithm>
#include <array>
#include <queue>
#include <vector>

namespace trireme {
namespace {

// Below this many symbols, scanning an array for the best pair beats a heap.
constexpr size_t kShort = 32;
constexpr uint32_t kNone = UINT32_MAX;

}  // namespace

size_t BpeMerges::Apply(TokenId* ids, size_t n) const {
  if (n < 2) return n;
  return n <= kShort ? ApplyShort(ids, n) : ApplyLong(ids, n);
}

size_t BpeMerges::ApplyShort(TokenId* ids, size_t n) const {
  std::array<Rule, kShort> rules;  // rules[i] joins ids[i] and ids[i + 1]
  for (size_t i = 0; i + 1 < n; ++i) rules[i] = Find(ids[i], ids[i + 1]);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
      if (rules[i].rank < rules[best].rank) best = i;
    }
    if (rules[best].rank == kNoRank) break;
    ids[best] = rules[best].merged;
    std::copy(ids + best + 2, ids + n, ids + best + 1);
    std::copy(rules.begin() + best + 1, rules.begin() + n - 1, rules.begin() + best);
    --n;
    if (best > 0) rules[best - 1] = Find(ids[best - 1], ids[best]);
    if (best + 1 < n) rules[best] = Find(ids[best], ids[best + 1]);
  }
  return n;
}

size_t BpeMerges::ApplyLong(TokenId* ids, size_t n) const {
  // A doubly linked list over the positions; a position that was joined into its left neighbour is
  // dead.
  struct Node {
    uint32_t previous, next;
  };
  struct Candidate {
    uint32_t rank, left;
    TokenId merged;
    bool operator<(const Candidate& o) const {  // std::priority_queue pops the greatest
      return rank != o.rank ? rank > o.rank : left > o.left;
    }
  };
  constexpr TokenId kDead = -1;
  std::vector<Node> nodes(n);
  std::vector<Candidate> initial;
  initial.reserve(n);
  for (uint32_t i = 0; i < n; ++i) {
    nodes[i] = {i == 0 ? kNone : i - 1, i + 1 == n ? kNone : i + 1};
    if (i + 1 == n) break;
    const Rule rule = Find(ids[i], ids[i + 1]);
    if (rule.rank != kNoRank) initial.push_back({rule.rank, i, rule.merged});
  }
  std::priority_queue<Candidate> queue(std::less<Candidate>(), std::move(initial));
  const auto consider = [&](uint32_t left, uint32_t right) {
    const Rule rule = Find(ids[left], ids[right]);
    if (rule.rank != kNoRank) queue.push({rule.rank, left, rule.merged});
  };

  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    const uint32_t left = top.left, right = nodes[left].next;
    // Stale when a neighbour changed since: the pair that stands there now has another result, or
    // none.
    if (ids[left] == kDead || right == kNone) continue;
    if (Find(ids[left], ids[right]).merged != top.merged) continue;
    ids[left] = top.merged;
    ids[right] = kDead;
    nodes[left].next = nodes[right].next;
    if (nodes[left].next != kNone) {
      nodes[nodes[left].next].previous = left;
      consider(left, nodes[left].next);
    }
    if (nodes[left].previous != kNone) consider(nodes[left].previous, left);
  }
  return static_cast<size_t>(std::remove(ids, ids + n, kDead) - ids);
}

}  // namespace trireme
