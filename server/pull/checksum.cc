#include "server/pull/checksum.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme::pull {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

struct KindFacts {
  const char* name;
  size_t digits;
  const EVP_MD* (*digest)();
};

KindFacts FactsOf(Checksum::Kind kind) {
  switch (kind) {
    case Checksum::Kind::kSha256:
      return {"sha256", 64, EVP_sha256};
    case Checksum::Kind::kGitBlob:
      return {"git-blob-sha1", 40, EVP_sha1};
    case Checksum::Kind::kCrc64Nvme:
      return {"crc64nvme", 16, nullptr};
    case Checksum::Kind::kMd5:
      break;
  }
  return {"md5", 32, EVP_md5};
}

// CRC-64/NVME (NVM Express, NVM command set specification, 64-bit guard), reflected, eight bytes a
// step: kTables[k][b] is the CRC of byte b with k zero bytes behind it.
class Crc64Nvme {
 public:
  void Update(const char* data, size_t count) {
    for (; count >= 8; data += 8, count -= 8) {
      uint64_t word = 0;
      std::memcpy(&word, data, 8);
      word ^= crc_;
      crc_ = 0;
      for (size_t k = 0; k < 8; ++k) crc_ ^= kTables[7 - k][(word >> (8 * k)) & 255];
    }
    for (; count > 0; ++data, --count)
      crc_ = kTables[0][(crc_ ^ static_cast<unsigned char>(*data)) & 255] ^ (crc_ >> 8);
  }
  std::string Final() const {  // most significant byte first
    std::string bytes;
    for (int shift = 56; shift >= 0; shift -= 8) bytes += static_cast<char>(~crc_ >> shift);
    return bytes;
  }

 private:
  using Tables = std::array<std::array<uint64_t, 256>, 8>;
  static constexpr Tables MakeTables() {
    Tables tables = {};
    for (uint64_t b = 0; b < 256; ++b) {
      uint64_t crc = b;
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
      tables[0][b] = crc;
    }
    for (size_t k = 1; k < 8; ++k) {
      for (size_t b = 0; b < 256; ++b)
        tables[k][b] = tables[0][tables[k - 1][b] & 255] ^ (tables[k - 1][b] >> 8);
    }
    return tables;
  }
  static constexpr uint64_t kPolynomial = 0x9a6c9329ac4bc9b5;
  static const Tables kTables;
  uint64_t crc_ = ~uint64_t{0};
};
constexpr Crc64Nvme::Tables Crc64Nvme::kTables = Crc64Nvme::MakeTables();

// Computes any of the kinds.
class Digest {
 public:
  explicit Digest(Checksum::Kind kind)
      : is_crc_(kind == Checksum::Kind::kCrc64Nvme), context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    ok_ = is_crc_ || EVP_DigestInit_ex(context_.get(), FactsOf(kind).digest(), nullptr) == 1;
  }
  void Update(const char* data, size_t count) {
    if (is_crc_) {
      crc_.Update(data, count);
    } else {
      ok_ = ok_ && EVP_DigestUpdate(context_.get(), data, count) == 1;
    }
  }
  absl::StatusOr<std::string> Final() {
    if (is_crc_) return crc_.Final();
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    if (!ok_ || EVP_DigestFinal_ex(context_.get(), digest, &length) != 1)
      return absl::InternalError("OpenSSL cannot compute this checksum");
    return std::string(reinterpret_cast<const char*>(digest), length);
  }

 private:
  const bool is_crc_;
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_;
  Crc64Nvme crc_;
  bool ok_ = true;
};

std::string Hex(std::string_view bytes) { return absl::BytesToHexString(ToAbsl(bytes)); }

}  // namespace

std::string Checksum::Text() const { return StrCat(FactsOf(kind).name, ":", hex); }

absl::StatusOr<Checksum> MakeChecksum(Checksum::Kind kind, std::string_view hex) {
  const KindFacts facts = FactsOf(kind);
  if (hex.size() != facts.digits || hex.find_first_not_of("0123456789abcdefABCDEF") != hex.npos) {
    return absl::InvalidArgumentError(StrCat("\"", Printable(hex, 80), "\" is no ", facts.name,
                                             ": ", facts.digits, " hexadecimal digits are wanted"));
  }
  return Checksum{kind, absl::AsciiStrToLower(ToAbsl(hex))};
}

absl::StatusOr<Checksum> ChecksumFromBase64(Checksum::Kind kind, std::string_view text) {
  const KindFacts facts = FactsOf(kind);
  std::string bytes;
  if (!absl::Base64Unescape(ToAbsl(text), &bytes) || bytes.size() * 2 != facts.digits) {
    return absl::InvalidArgumentError(
        StrCat("\"", Printable(text, 80), "\" is no ", facts.name, " in base64"));
  }
  return Checksum{kind, Hex(bytes)};
}

absl::Status CheckFile(const std::string& path, const Checksum& wanted,
                       const std::atomic<bool>* stop) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info = {};
  if (fd < 0 || fstat(fd, &info) != 0) {
    const int error = errno;
    if (fd >= 0) close(fd);
    return absl::UnavailableError(StrCat(path, ": ", ErrnoText(error)));
  }
  Digest digest(wanted.kind);
  if (wanted.kind == Checksum::Kind::kGitBlob) {
    std::string head = StrCat("blob ", info.st_size);
    head += '\0';
    digest.Update(head.data(), head.size());
  }
  std::vector<char> buffer(kBufferBytes);
  ssize_t count = 1;
  while (!*stop && (count = read(fd, buffer.data(), buffer.size())) > 0)
    digest.Update(buffer.data(), static_cast<size_t>(count));
  const int error = errno;
  close(fd);
  if (*stop) return absl::CancelledError("interrupted");
  if (count < 0) return absl::UnavailableError(StrCat(path, ": ", ErrnoText(error)));
  TRIREME_ASSIGN_OR_RETURN(const std::string bytes, digest.Final());
  const std::string found = Hex(bytes);
  if (found == wanted.hex) return absl::OkStatus();
  return absl::DataLossError(
      StrCat("its ", FactsOf(wanted.kind).name, " is ", found, ", not ", wanted.hex));
}

}  // namespace trireme::pull
