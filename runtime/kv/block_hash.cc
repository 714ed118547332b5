#include "runtime/kv/block_hash.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <bit>
#include <cstring>
#include <string>

#include "runtime/base/check.h"

namespace trireme {
namespace {

// No root is a plain SHA-256 of something that others hash, too.
constexpr std::string_view kRootLabel = "trireme prefix cache root v2:";

constexpr size_t kMessageBytes = SHA256_CBLOCK;
static_assert(sizeof(SHA256_CTX::h) == sizeof(BlockHash));

// OpenSSL 3 calls this deprecated and has no other way to the compression function. Its digests
// (EVP) take 206 ns for (parent, 16 tokens), with algorithm and context kept, beside 60.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
void Compress(SHA256_CTX* state, const uint8_t* message) { SHA256_Transform(state, message); }
#pragma GCC diagnostic pop

}  // namespace

BlockHash RootHash(std::string_view salt) {
  std::string text(kRootLabel);
  text.append(salt);
  BlockHash hash;
  TRIREME_CHECK(EVP_Digest(text.data(), text.size(), hash.data(), nullptr, EVP_sha256(), nullptr) ==
                1);
  return hash;
}

BlockHash ChainHash(const BlockHash& parent, absl::Span<const TokenId> block_tokens) {
  static_assert(std::endian::native == std::endian::little);  // tokens are hashed as they lie
  SHA256_CTX state = {};
  std::memcpy(state.h, parent.data(), parent.size());
  const auto* bytes = reinterpret_cast<const uint8_t*>(block_tokens.data());
  size_t left = block_tokens.size() * sizeof(TokenId);
  for (; left >= kMessageBytes; left -= kMessageBytes, bytes += kMessageBytes) {
    Compress(&state, bytes);
  }
  if (left > 0) {
    uint8_t padded[kMessageBytes] = {};
    std::memcpy(padded, bytes, left);
    Compress(&state, padded);
  }
  BlockHash hash;
  std::memcpy(hash.data(), state.h, hash.size());
  return hash;
}

}  // namespace trireme
