#include "runtime/kv/block_pool.h"

#include <openssl/sha.h>

#include <algorithm>
#include <cstring>

#include "absl/container/inlined_vector.h"
#include "runtime/base/check.h"

namespace trireme {
namespace {

// Separates roots from links of a chain, whose input starts with a hash.
constexpr std::string_view kRootLabel = "trireme prefix cache root v1:";

using HashInput = absl::InlinedVector<uint8_t, 32 + 4 * 64>;

BlockHash Sha256(const HashInput& input) {
  BlockHash hash;
  SHA256(input.data(), input.size(), hash.data());
  return hash;
}

}  // namespace

BlockHash RootHash(std::string_view salt) {
  HashInput input(kRootLabel.begin(), kRootLabel.end());
  input.insert(input.end(), salt.begin(), salt.end());
  return Sha256(input);
}

BlockHash ChainHash(const BlockHash& parent, absl::Span<const TokenId> block_tokens) {
  HashInput input(parent.begin(), parent.end());
  for (const TokenId token : block_tokens) {
    const uint32_t bits = static_cast<uint32_t>(token);
    for (int shift = 0; shift < 32; shift += 8)
      input.push_back(static_cast<uint8_t>(bits >> shift));
  }
  return Sha256(input);
}

size_t BlockPool::TruncateHash::operator()(const BlockHash& hash) const {
  size_t value;
  std::memcpy(&value, hash.data(), sizeof(value));
  return value;
}

BlockPool::BlockPool(int num_blocks, int block_size) : block_size_(block_size) {
  TRIREME_CHECK(num_blocks > 0 && block_size > 0);
  blocks_.resize(static_cast<size_t>(num_blocks) + 1);
  blocks_[lru()].prev = blocks_[lru()].next = lru();
  index_.reserve(num_blocks);
  for (BlockId block = num_blocks - 1; block >= 0; --block) PushFree(block);
}

int BlockPool::AcquirePrefix(absl::Span<const BlockHash> chain, std::vector<BlockId>* blocks) {
  int matched = 0;
  for (const BlockHash& hash : chain) {
    const auto found = index_.find(hash);
    if (found == index_.end()) break;
    const BlockId id = found->second;
    if (blocks_[id].ref_count++ == 0) {
      Unlink(id);
      --num_cached_;
      ++num_held_;
    }
    blocks->push_back(id);
    ++matched;
  }
  return matched;
}

bool BlockPool::Grow(int count, std::vector<BlockId>* blocks) {
  TRIREME_CHECK(count >= 0);
  if (count > num_available()) return false;
  for (int i = 0; i < count; ++i) {
    const BlockId id = TakeFreeOrOldest();
    blocks_[id].ref_count = 1;
    ++num_held_;
    blocks->push_back(id);
  }
  return true;
}

void BlockPool::Publish(BlockId id, const BlockHash& hash) {
  Block& block = blocks_[id];
  TRIREME_CHECK(block.ref_count > 0);
  if (block.published) {
    TRIREME_CHECK(block.hash == hash);  // a full block never changes
    return;
  }
  if (index_.try_emplace(hash, id).second) {
    block.published = true;
    block.hash = hash;
  }
}

void BlockPool::Retract(BlockId id) {
  Block& block = blocks_[id];
  TRIREME_CHECK(block.ref_count > 0);
  if (block.published) index_.erase(block.hash);
  block.published = false;
}

void BlockPool::Release(absl::Span<const BlockId> blocks) {
  for (auto it = blocks.rbegin(); it != blocks.rend(); ++it) {
    Block& block = blocks_[*it];
    TRIREME_CHECK(block.ref_count > 0);
    if (--block.ref_count > 0) continue;
    --num_held_;
    if (block.published) {
      PushNewest(*it);
      ++num_cached_;
    } else {
      PushFree(*it);
    }
  }
}

void BlockPool::DropCache() {
  for (BlockId id = 0; id < num_blocks(); ++id) {
    Block& block = blocks_[id];
    if (!block.published) continue;
    block.published = false;
    if (block.ref_count == 0) {
      Unlink(id);
      PushFree(id);
    }
  }
  index_.clear();
  num_cached_ = 0;
}

BlockId BlockPool::TakeFreeOrOldest() {
  if (free_head_ >= 0) {
    const BlockId id = free_head_;
    free_head_ = blocks_[id].next;
    return id;
  }
  const BlockId id = blocks_[lru()].next;
  TRIREME_CHECK(id != lru());
  Unlink(id);
  --num_cached_;
  index_.erase(blocks_[id].hash);
  blocks_[id].published = false;
  return id;
}

void BlockPool::PushFree(BlockId id) {
  blocks_[id].next = free_head_;
  free_head_ = id;
}

void BlockPool::PushNewest(BlockId id) {
  Block& sentinel = blocks_[lru()];
  blocks_[id].prev = sentinel.prev;
  blocks_[id].next = lru();
  blocks_[sentinel.prev].next = id;
  sentinel.prev = id;
}

void BlockPool::Unlink(BlockId id) {
  const Block& block = blocks_[id];
  blocks_[block.prev].next = block.next;
  blocks_[block.next].prev = block.prev;
}

void BlockPool::CheckInvariants() const {
  int num_free = 0, num_cached = 0, num_held = 0, num_published = 0;
  for (BlockId id = free_head_; id >= 0; id = blocks_[id].next) {
    TRIREME_CHECK(blocks_[id].ref_count == 0 && !blocks_[id].published);
    TRIREME_CHECK(++num_free <= num_blocks());  // no cycle
  }
  for (BlockId id = blocks_[lru()].next; id != lru(); id = blocks_[id].next) {
    TRIREME_CHECK(blocks_[id].ref_count == 0 && blocks_[id].published);
    TRIREME_CHECK(blocks_[blocks_[id].next].prev == id);
    TRIREME_CHECK(++num_cached <= num_blocks());
  }
  for (BlockId id = 0; id < num_blocks(); ++id) {
    const Block& block = blocks_[id];
    TRIREME_CHECK(block.ref_count >= 0);
    if (block.ref_count > 0) ++num_held;
    if (!block.published) continue;
    ++num_published;
    const auto found = index_.find(block.hash);
    TRIREME_CHECK(found != index_.end() && found->second == id);
  }
  TRIREME_CHECK(static_cast<size_t>(num_published) == index_.size());
  TRIREME_CHECK(num_held == num_held_ && num_cached == num_cached_);
  TRIREME_CHECK(num_free + num_cached + num_held == num_blocks());
}

}  // namespace trireme
