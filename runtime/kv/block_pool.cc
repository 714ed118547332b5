#include "runtime/kv/block_pool.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <openssl/rand.h>

#include "runtime/base/check.h"

namespace trireme {
namespace {

uint64_t RandomOdd() {
  uint64_t key = 0;
  TRIREME_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(&key), sizeof(key)) == 1);
  return key | 1;
}

}  // namespace

BlockPool::BlockPool(int num_blocks, int block_size)
    : block_size_(block_size), bucket_key_(RandomOdd()) {
  TRIREME_CHECK(num_blocks > 0 && block_size > 0);
  blocks_.resize(static_cast<size_t>(num_blocks) + 1);
  blocks_[lru()].prev = blocks_[lru()].next = lru();
  buckets_.assign(std::bit_ceil(static_cast<size_t>(num_blocks) + 1), -1);
  for (BlockId block = num_blocks - 1; block >= 0; --block) PushFree(block);
}

int BlockPool::AcquirePrefix(absl::Span<const BlockHash> chain, std::vector<BlockId>* blocks) {
  int matched = 0;
  for (const BlockHash& hash : chain) {
    const BlockId id = Lookup(hash);
    if (id < 0) break;
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
  if (Lookup(hash) >= 0) return;
  block.hash = hash;
  AddToIndex(id);
}

void BlockPool::Retract(BlockId id) {
  Block& block = blocks_[id];
  TRIREME_CHECK(block.ref_count > 0);
  if (block.published) RemoveFromIndex(id);
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
  std::fill(buckets_.begin(), buckets_.end(), -1);
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
  RemoveFromIndex(id);
  return id;
}

size_t BlockPool::BucketOf(const BlockHash& hash) const {
  uint64_t word;  // any bytes of it will do
  std::memcpy(&word, hash.data(), sizeof(word));
  // Multiplicative hashing (Dietzfelbinger et al., 1997): the highest bits of the product.
  return static_cast<size_t>(word * bucket_key_ >> (64 - std::countr_zero(buckets_.size())));
}

int BlockPool::LongestChain() const {
  int longest = 0;
  for (BlockId id : buckets_) {
    int length = 0;
    for (; id >= 0; id = blocks_[id].next_in_bucket) ++length;
    longest = std::max(longest, length);
  }
  return longest;
}

BlockId BlockPool::Lookup(const BlockHash& hash) const {
  BlockId id = buckets_[BucketOf(hash)];
  while (id >= 0 && blocks_[id].hash != hash) id = blocks_[id].next_in_bucket;
  return id;
}

void BlockPool::AddToIndex(BlockId id) {
  BlockId* const bucket = &buckets_[BucketOf(blocks_[id].hash)];
  blocks_[id].next_in_bucket = *bucket;
  blocks_[id].published = true;
  *bucket = id;
}

void BlockPool::RemoveFromIndex(BlockId id) {
  BlockId* link = &buckets_[BucketOf(blocks_[id].hash)];
  while (*link != id) link = &blocks_[*link].next_in_bucket;
  *link = blocks_[id].next_in_bucket;
  blocks_[id].published = false;
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
    TRIREME_CHECK(Lookup(block.hash) == id);
  }
  for (BlockId id : buckets_) {
    for (; id >= 0; id = blocks_[id].next_in_bucket) TRIREME_CHECK(--num_published >= 0);
  }
  TRIREME_CHECK(num_published == 0);
  TRIREME_CHECK(num_held == num_held_ && num_cached == num_cached_);
  TRIREME_CHECK(num_free + num_cached + num_held == num_blocks());
}

}  // namespace trireme
