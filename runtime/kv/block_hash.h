// What a full KV block holds, in 32 bytes: a chain that begins with a hash of the salt and takes in
// the token ids of one block after the other, so that equal hashes mean equal whole prefixes.
// Blocks of different tenants carry different salts and never match. Source: the automatic prefix
// caching of vLLM.
//
// A link is SHA-256's compression function (FIPS 180-4, 6.2.2) with the parent as its state and the
// tokens as its message, 16 a time: a chain is SHA-256 that is told its state after every block,
// and two prefixes with one hash are a collision of that function, from states that nobody chooses
// (roots are hashes). Hashing (parent, tokens) as a message of its own would compress twice for
// every block of 16 tokens.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "absl/types/span.h"
#include "runtime/base/ids.h"

namespace trireme {

// The eight words of the state, each as it lies in memory.
using BlockHash = std::array<uint8_t, 32>;

// Any thread.
BlockHash RootHash(std::string_view salt);  // the bytes of SHA-256(label, salt)
// Hash of a full block following `parent` (the hash of the block before it, or RootHash(salt) for
// the first). Blocks of one chain are equally long; what a block of 8 tokens lacks
// to 16 is zeros.
BlockHash ChainHash(const BlockHash& parent, absl::Span<const TokenId> block_tokens);

}  // namespace trireme
