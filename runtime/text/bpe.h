// Byte-pair encoding of one piece: repeatedly joins the adjacent pair whose rule ranks best,
// leftmost first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "runtime/base/ids.h"

namespace trireme {

// Rules are added while loading; Apply is thread-safe once that is over.
class BpeMerges {
 public:
  void Reserve(size_t num_rules) { rules_.reserve(num_rules); }
  // A later rule for the same pair replaces the earlier one. Lower ranks win.
  void Add(TokenId left, TokenId right, uint32_t rank, TokenId merged) {
    rules_[Key(left, right)] = {rank, merged};
  }

  // Joins the `n` symbols at `ids` until no rule applies; returns how many are left, at the front
  // of `ids`. O(n log n); n must be below 2^32 - 1.
  size_t Apply(TokenId* ids, size_t n) const;

 private:
  static constexpr uint32_t kNoRank = UINT32_MAX;
  struct Rule {
    uint32_t rank = kNoRank;
    TokenId merged = -1;
  };
  static uint64_t Key(TokenId left, TokenId right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  Rule Find(TokenId left, TokenId right) const {
    const auto it = rules_.find(Key(left, right));
    return it == rules_.end() ? Rule() : it->second;
  }
  size_t ApplyShort(TokenId* ids, size_t n) const;
  size_t ApplyLong(TokenId* ids, size_t n) const;

  absl::flat_hash_map<uint64_t, Rule> rules_;
};

}  // namespace trireme
