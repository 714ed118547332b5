// Who holds which KV block: ids only, never memory.
//
// Every block is in exactly one state: free, cached (content known, no holder, evictable in LRU
// order) or held (one or more sequences). A full block is found by its hash (block_hash.h). Source:
// PagedAttention (Kwon et al., 2023).
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "runtime/base/ids.h"
#include "runtime/kv/block_hash.h"

namespace trireme {

// Engine thread only. No operation scans the pool (but DropCache, LongestChain and
// CheckInvariants): all are O(blocks touched), and none allocates memory after construction.
class BlockPool {
 public:
  // Both > 0.
  BlockPool(int num_blocks, int block_size);

  int num_blocks() const { return static_cast<int>(blocks_.size()) - 1; }
  int block_size() const { return block_size_; }
  // Blocks that can be had now: free + cached.
  int num_available() const { return num_blocks() - num_held_; }
  int num_held() const { return num_held_; }
  int num_cached() const { return num_cached_; }

  // Takes a reference on the longest run of cached or held blocks whose hashes equal the first
  // hashes of the chain. Appends their ids to `blocks`; returns how many matched.
  int AcquirePrefix(absl::Span<const BlockHash> chain, std::vector<BlockId>* blocks);
  // Takes `count` blocks (evicting cached ones, oldest first) and appends them; all or nothing.
  bool Grow(int count, std::vector<BlockId>* blocks);
  // Declares the content of a held, full block. If the hash is known already for another block, the
  // older stays the one that is found. `block` remains held.
  void Publish(BlockId block, const BlockHash& hash);
  // Forgets the content of a held block: nobody will find it any more (it may hold bad values).
  // Holders keep it.
  void Retract(BlockId block);
  // Drops one reference on each; at zero a published block becomes cached, another becomes free.
  // The last block of the list becomes the first to be evicted, so that prefixes outlive their
  // tails.
  void Release(absl::Span<const BlockId> blocks);
  // Forgets all cached content, that of held blocks too (weights reloaded, tests).
  void DropCache();

  // free + cached + held == total, reference counts positive, index consistent. For tests and idle
  // moments. Aborts.
  void CheckInvariants() const;
  // Of the index's chains. For tests.
  int LongestChain() const;

 private:
  // Free:   ref_count == 0, not published; chained through `next` from free_head_.
  // Cached: ref_count == 0, published; in the circular LRU list through prev/next.
  // Held:   ref_count > 0; in no list.
  // published <=> in the chain of its hash's bucket.
  struct Block {
    int ref_count = 0;
    bool published = false;
    BlockId prev = -1, next = -1;
    BlockId next_in_bucket = -1;
    BlockHash hash;
  };

  // The index of published blocks: chains through the blocks themselves, so that nothing ever grows
  // or is rehashed, and a lookup reads little more than the block that it finds. Which bucket a
  // hash falls into is a secret of the pool's: clients know how hashes are made, and could look for
  // prompts that fill one.
  size_t BucketOf(const BlockHash& hash) const;
  BlockId Lookup(const BlockHash& hash) const;  // -1: no block has this content
  void AddToIndex(BlockId block);
  void RemoveFromIndex(BlockId block);
  BlockId TakeFreeOrOldest();
  void PushFree(BlockId block);
  void PushNewest(BlockId block);
  void Unlink(BlockId block);
  BlockId lru() const { return num_blocks(); }  // sentinel: next is the oldest, prev the newest

  const int block_size_;
  const uint64_t bucket_key_;  // random, odd
  std::vector<Block> blocks_;  // [num_blocks + 1]; the last is the sentinel of the LRU list
  BlockId free_head_ = -1;
  int num_held_ = 0;
  int num_cached_ = 0;
  std::vector<BlockId> buckets_;  // the first of each chain, or -1; a power of 2, > num_blocks
};

}  // namespace trireme
