// What a full KV block holds, in 32 bytes: SHA-256 over (parent hash, token ids of the block), a
// chain that begins with a hash of the salt, so that equal hashes mean equal whole prefixes. Blocks
// of different tenants carry different salts and never match. Source: the automatic prefix caching
// of vLLM.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "absl/types/span.h"
#include "runtime/base/ids.h"

namespace trireme {

using BlockHash = std::array<uint8_t, 32>;  // SHA-256

// Hash of a full block following `parent` (the hash of the block before it, or RootHash(salt) for
// the first). Any thread; OpenSSL makes a small allocation a call.
BlockHash RootHash(std::string_view salt);
BlockHash ChainHash(const BlockHash& parent, absl::Span<const TokenId> block_tokens);

}  // namespace trireme
