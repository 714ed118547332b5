// Who holds which KV block: ids only, never memory.
//
// Every block is in exactly one state: free, cached (content known, no holder, evictable in LRU order) or held (one or
// more sequences). A full block has a content hash: SHA-256 over (parent hash, salt, token ids of the block), a chain,
// so that equal hashes mean equal whole prefixes. Blocks of different tenants carry different salts and never match.
// Source: the automatic prefix caching of vLLM (block hash chain), PagedAttention (Kwon et al., 2023).
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "runtime/base/ids.h"

namespace trireme {

using BlockHash = std::array<uint8_t, 32>;  // SHA-256

// Hash of a full block following `parent` (the hash of the block before it, or RootHash(salt) for the first).
BlockHash RootHash(std::string_view salt);
BlockHash ChainHash(const BlockHash& parent, absl::Span<const TokenId> block_tokens);

// Engine thread only. No operation scans the pool: all are O(blocks touched).
class BlockPool {
 public:
  BlockPool(int num_blocks, int block_size);

  int num_blocks() const;
  int block_size() const;
  // Blocks that can be had now: free + cached.
  int num_available() const;
  int num_held() const;
  int num_cached() const;

  // Takes a reference on the longest run of cached or held blocks whose hashes equal the first hashes of the chain.
  // Appends their ids to `blocks`; returns how many matched.
  int AcquirePrefix(absl::Span<const BlockHash> chain, std::vector<BlockId>* blocks);
  // Takes `count` blocks (evicting cached ones, oldest first) and appends them; all or nothing.
  bool Grow(int count, std::vector<BlockId>* blocks);
  // Declares the content of a held, full block. If the hash is known already for another block, the older stays the
  // one that is found. `block` remains held.
  void Publish(BlockId block, const BlockHash& hash);
  // Drops one reference on each; at zero a published block becomes cached, another becomes free. The last block of the
  // list becomes the first to be evicted, so that prefixes outlive their tails.
  void Release(absl::Span<const BlockId> blocks);
  // Forgets all cached content (weights reloaded, tests).
  void DropCache();

  // free + cached + held == total, reference counts positive, index consistent. For tests and idle moments. Aborts.
  void CheckInvariants() const;

 private:
  struct Block;
  // ... (implementation's choice)
};

}  // namespace trireme
