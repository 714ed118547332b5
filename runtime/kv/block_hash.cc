#include "runtime/kv/block_hash.h"

#include <openssl/evp.h>

#include <bit>
#include <memory>

#include "runtime/base/check.h"

namespace trireme {
namespace {

// Separates roots from links of a chain, whose input starts with a hash.
constexpr std::string_view kRootLabel = "trireme prefix cache root v1:";

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

// SHA-256 of two pieces, one after the other. The algorithm is looked up and the context made once
// a thread: OpenSSL 3 does both in every call of SHA256(), and that takes twice as long as hashing
// a block of 16 tokens.
BlockHash Sha256(const void* first, size_t first_bytes, const void* second, size_t second_bytes) {
  static const EVP_MD* const kSha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  thread_local const std::unique_ptr<EVP_MD_CTX, FreeContext> context(EVP_MD_CTX_new());
  BlockHash hash;
  TRIREME_CHECK(EVP_DigestInit_ex2(context.get(), kSha256, nullptr) == 1);
  TRIREME_CHECK(EVP_DigestUpdate(context.get(), first, first_bytes) == 1);
  TRIREME_CHECK(EVP_DigestUpdate(context.get(), second, second_bytes) == 1);
  TRIREME_CHECK(EVP_DigestFinal_ex(context.get(), hash.data(), nullptr) == 1);
  return hash;
}

}  // namespace

BlockHash RootHash(std::string_view salt) {
  return Sha256(kRootLabel.data(), kRootLabel.size(), salt.data(), salt.size());
}

BlockHash ChainHash(const BlockHash& parent, absl::Span<const TokenId> block_tokens) {
  static_assert(std::endian::native == std::endian::little);  // tokens are hashed as they lie
  return Sha256(parent.data(), parent.size(), block_tokens.data(),
                block_tokens.size() * sizeof(TokenId));
}

}  // namespace trireme
