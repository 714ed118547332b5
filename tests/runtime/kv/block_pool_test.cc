#include "runtime/kv/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <deque>
#include <map>
#include <random>
#include <set>

namespace trireme {
namespace {

BlockHash HashOf(int n) { return ChainHash(RootHash("test"), {n}); }

std::string Hex(const BlockHash& hash) {
  std::string hex;
  for (const uint8_t byte : hash) {
    constexpr char kDigits[] = "0123456789abcdef";
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

// The state of SHA-256 with these words, as FIPS 180-4 writes it: most significant byte first.
BlockHash SwapWords(BlockHash state) {
  for (size_t i = 0; i < state.size(); i += 4) std::reverse(&state[i], &state[i] + 4);
  return state;
}

BlockHash StateOf(const std::array<uint32_t, 8>& words) { return std::bit_cast<BlockHash>(words); }

constexpr std::array<uint32_t, 8> kInitialState = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

// A chain from SHA-256's initial state over a message of 64 bytes and its padding is the message's
// hash.
TEST(BlockHash, ChainIsSha256OfTheTokensBytes) {
  std::array<uint8_t, 128> padded = {};
  for (int i = 0; i < 64; ++i) padded[i] = static_cast<uint8_t>(i);
  padded[64] = 0x80;
  padded[126] = 2;  // 512 bits
  const auto tokens = std::bit_cast<std::array<TokenId, 32>>(padded);
  const absl::Span<const TokenId> all(tokens);
  const BlockHash first = ChainHash(StateOf(kInitialState), all.subspan(0, 16));
  const BlockHash second = ChainHash(first, all.subspan(16));
  // By Python's hashlib: sha256(bytes(range(64))).
  EXPECT_EQ(Hex(SwapWords(second)),
            "fdeab9acf3710362bd2658cdc9a29e8f9c757fcf9811603a8c447cd1d9151108");
  // Blocks of 32 tokens take two steps.
  EXPECT_EQ(ChainHash(StateOf(kInitialState), all), second);
  // Tokens that do not fill a message are followed by zeros.
  std::array<TokenId, 16> short_block = {7, 8};
  EXPECT_EQ(ChainHash(first, {7, 8}), ChainHash(first, short_block));
}

TEST(BlockHash, RootIsSha256OfLabelAndSalt) {
  EXPECT_EQ(Hex(RootHash("tenant")),
            "fe3d306c34626490027f09cf31693a86b99c7e58b0909ef0cf87f0b9dfa48895");
}

TEST(BlockHash, DependsOnSaltParentTokensAndTheirOrder) {
  const BlockHash a = RootHash("a");
  EXPECT_NE(a, RootHash("b"));
  EXPECT_NE(a, RootHash(""));
  EXPECT_EQ(ChainHash(a, {1, 2}), ChainHash(a, {1, 2}));
  EXPECT_NE(ChainHash(a, {1, 2}), ChainHash(a, {2, 1}));
  EXPECT_NE(ChainHash(a, {1, 2}), ChainHash(RootHash("b"), {1, 2}));
  EXPECT_NE(ChainHash(ChainHash(a, {1}), {2}), ChainHash(a, {1, 2}));
}

TEST(BlockPool, GrowIsAllOrNothing) {
  BlockPool pool(4, 16);
  std::vector<BlockId> blocks;
  EXPECT_FALSE(pool.Grow(5, &blocks));
  EXPECT_TRUE(blocks.empty());
  EXPECT_TRUE(pool.Grow(3, &blocks));
  EXPECT_FALSE(pool.Grow(2, &blocks));
  EXPECT_EQ(blocks.size(), 3u);
  EXPECT_EQ(pool.num_available(), 1);
  EXPECT_EQ(std::set<BlockId>(blocks.begin(), blocks.end()).size(), 3u);
  pool.CheckInvariants();
}

// Clients know how hashes are made, and can look for prompts whose hashes have bits in common.
TEST(BlockPool, HashesThatAreAlikeAreFoundAsFastAsOthers) {
  constexpr int kBlocks = 4096;
  for (const int shared_bytes : {0, 2, 4}) {
    BlockPool pool(kBlocks, 16);
    std::vector<BlockId> blocks;
    ASSERT_TRUE(pool.Grow(kBlocks, &blocks));
    for (const BlockId block : blocks) {
      BlockHash hash = HashOf(block);
      std::fill_n(hash.begin(), shared_bytes, uint8_t{0});
      pool.Publish(block, hash);
    }
    EXPECT_LT(pool.LongestChain(), 64) << shared_bytes;
    pool.CheckInvariants();
  }
}

TEST(BlockPool, ReleasedPublishedBlocksAreFoundAgainUntilEvicted) {
  BlockPool pool(4, 16);
  std::vector<BlockId> first;
  ASSERT_TRUE(pool.Grow(3, &first));
  const std::vector<BlockHash> chain = {HashOf(0), HashOf(1), HashOf(2)};
  for (int i = 0; i < 3; ++i) pool.Publish(first[i], chain[i]);
  pool.Release(first);
  EXPECT_EQ(pool.num_cached(), 3);
  EXPECT_EQ(pool.num_available(), 4);

  std::vector<BlockId> second;
  EXPECT_EQ(pool.AcquirePrefix(chain, &second), 3);
  EXPECT_EQ(second, first);
  pool.Release(second);

  // One free and three cached: two taken evict the tail of the prefix, not its head.
  std::vector<BlockId> third;
  ASSERT_TRUE(pool.Grow(2, &third));
  EXPECT_EQ(third[1], first[2]);
  second.clear();
  EXPECT_EQ(pool.AcquirePrefix(chain, &second), 2);
  pool.CheckInvariants();
}

TEST(BlockPool, AMatchStopsAtTheFirstGap) {
  BlockPool pool(4, 16);
  std::vector<BlockId> held;
  ASSERT_TRUE(pool.Grow(2, &held));
  pool.Publish(held[0], HashOf(0));
  pool.Publish(held[1], HashOf(2));
  std::vector<BlockId> match;
  EXPECT_EQ(pool.AcquirePrefix({HashOf(0), HashOf(1), HashOf(2)}, &match), 1);
  EXPECT_EQ(match, std::vector<BlockId>{held[0]});
}

TEST(BlockPool, OfTwoBlocksWithTheSameContentTheOlderIsFound) {
  BlockPool pool(4, 16);
  std::vector<BlockId> a, b, match;
  ASSERT_TRUE(pool.Grow(1, &a));
  ASSERT_TRUE(pool.Grow(1, &b));
  pool.Publish(a[0], HashOf(7));
  pool.Publish(b[0], HashOf(7));
  pool.Release(b);
  EXPECT_EQ(pool.num_cached(), 0);
  EXPECT_EQ(pool.AcquirePrefix({HashOf(7)}, &match), 1);
  EXPECT_EQ(match, a);
  pool.Release(a);
  EXPECT_EQ(pool.num_held(), 1);  // shared: still held by the match
  pool.Release(match);
  EXPECT_EQ(pool.num_cached(), 1);
  pool.CheckInvariants();
}

TEST(BlockPool, RetractedContentIsNotFoundAndNotCached) {
  BlockPool pool(2, 16);
  std::vector<BlockId> a, match;
  ASSERT_TRUE(pool.Grow(1, &a));
  pool.Publish(a[0], HashOf(1));
  pool.Retract(a[0]);
  pool.Retract(a[0]);
  EXPECT_EQ(pool.AcquirePrefix({HashOf(1)}, &match), 0);
  pool.Release(a);
  EXPECT_EQ(pool.num_cached(), 0);
  pool.CheckInvariants();
}

TEST(BlockPool, DropCacheForgetsHeldAndCachedContent) {
  BlockPool pool(4, 16);
  std::vector<BlockId> a, b, match;
  ASSERT_TRUE(pool.Grow(1, &a));
  ASSERT_TRUE(pool.Grow(1, &b));
  pool.Publish(a[0], HashOf(1));
  pool.Publish(b[0], HashOf(2));
  pool.Release(a);
  pool.DropCache();
  pool.CheckInvariants();
  EXPECT_EQ(pool.AcquirePrefix({HashOf(1)}, &match), 0);
  EXPECT_EQ(pool.AcquirePrefix({HashOf(2)}, &match), 0);
  pool.Release(b);
  EXPECT_EQ(pool.num_cached(), 0);
  EXPECT_EQ(pool.num_available(), 4);
  pool.CheckInvariants();
}

// The pool as plainly as it can be said: maps and a list, everything scanned.
class NaivePool {
 public:
  explicit NaivePool(int num_blocks) : refs_(num_blocks, 0), names_(num_blocks, kNone) {}

  std::vector<BlockId> AcquirePrefix(const std::vector<int>& chain) {
    std::vector<BlockId> match;
    for (const int name : chain) {
      const auto it = std::find(names_.begin(), names_.end(), name);
      if (it == names_.end()) break;
      const BlockId id = static_cast<BlockId>(it - names_.begin());
      if (refs_[id]++ == 0) lru_.erase(std::find(lru_.begin(), lru_.end(), id));
      match.push_back(id);
    }
    return match;
  }
  // The real pool chose `taken`; returns whether that was allowed: free ones first, then the oldest
  // cached.
  bool Took(const std::vector<BlockId>& taken) {
    for (const BlockId id : taken) {
      if (refs_[id] != 0) return false;
      if (names_[id] != kNone) {
        if (num_free() > 0 || lru_.front() != id) return false;
        lru_.pop_front();
        names_[id] = kNone;
      }
      refs_[id] = 1;
    }
    return true;
  }
  void Publish(BlockId id, int name) {
    if (std::find(names_.begin(), names_.end(), name) == names_.end()) names_[id] = name;
  }
  void Retract(BlockId id) { names_[id] = kNone; }
  void Release(const std::vector<BlockId>& blocks) {
    for (auto it = blocks.rbegin(); it != blocks.rend(); ++it) {
      if (--refs_[*it] == 0 && names_[*it] != kNone) lru_.push_back(*it);
    }
  }
  int num_cached() const { return static_cast<int>(lru_.size()); }
  int num_held() const {
    return static_cast<int>(refs_.size() - std::count(refs_.begin(), refs_.end(), 0));
  }
  int num_free() const { return static_cast<int>(refs_.size()) - num_held() - num_cached(); }
  bool published(BlockId id) const { return names_[id] != kNone; }

 private:
  static constexpr int kNone = -1;
  std::vector<int> refs_, names_;
  std::deque<BlockId> lru_;
};

void RunAgainstModel(uint32_t seed, int num_blocks) {
  std::mt19937 random(seed);
  const auto below = [&](int n) { return static_cast<int>(random() % n); };
  BlockPool pool(num_blocks, 16);
  NaivePool model(num_blocks);
  std::vector<std::vector<BlockId>> holders;
  const int num_names = num_blocks;

  for (int op = 0; op < 400; ++op) {
    const int kind = below(10);
    if (kind < 3) {
      const int count = below(4);
      std::vector<BlockId> blocks;
      const bool fits = count <= num_blocks - model.num_held();
      ASSERT_EQ(pool.Grow(count, &blocks), fits);
      ASSERT_TRUE(model.Took(blocks));
      ASSERT_EQ(blocks.size(), fits ? count : 0u);
      holders.push_back(blocks);
    } else if (kind < 5) {
      std::vector<int> chain;
      std::vector<BlockHash> hashes;
      for (int i = 0, length = below(5); i < length; ++i) {
        chain.push_back(below(num_names));
        hashes.push_back(HashOf(chain.back()));
      }
      std::vector<BlockId> blocks;
      const int matched = pool.AcquirePrefix(hashes, &blocks);
      ASSERT_EQ(matched, static_cast<int>(blocks.size()));
      ASSERT_EQ(blocks, model.AcquirePrefix(chain));
      holders.push_back(blocks);
    } else if (kind < 8 && !holders.empty()) {
      const auto& blocks = holders[below(static_cast<int>(holders.size()))];
      for (const BlockId id : blocks) {
        if (kind == 7 && below(4) == 0) {
          pool.Retract(id);
          model.Retract(id);
        } else if (!model.published(id)) {
          const int name = below(num_names);
          pool.Publish(id, HashOf(name));
          model.Publish(id, name);
        }
      }
    } else if (!holders.empty()) {
      const int victim = below(static_cast<int>(holders.size()));
      pool.Release(holders[victim]);
      model.Release(holders[victim]);
      holders.erase(holders.begin() + victim);
    }
    pool.CheckInvariants();
    ASSERT_EQ(pool.num_held(), model.num_held());
    ASSERT_EQ(pool.num_cached(), model.num_cached());
    ASSERT_EQ(pool.num_available(), model.num_free() + model.num_cached());
  }
  for (const auto& blocks : holders) pool.Release(blocks);
  pool.CheckInvariants();
  EXPECT_EQ(pool.num_available(), num_blocks);
}

TEST(BlockPool, BehavesAsTheNaiveModelUnderRandomOperations) {
  for (uint32_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(seed);
    RunAgainstModel(seed, 1 + static_cast<int>(seed % 24));
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace trireme
