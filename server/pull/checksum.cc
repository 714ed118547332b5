#include "server/pull/checksum.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
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
    case Checksum::Kind::kMd5:
      break;
  }
  return {"md5", 32, EVP_md5};
}

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

absl::StatusOr<Checksum> Sha256FromBase64(std::string_view text) {
  std::string bytes;
  if (!absl::Base64Unescape(ToAbsl(text), &bytes) || bytes.size() != 32) {
    return absl::InvalidArgumentError(
        StrCat("\"", Printable(text, 80), "\" is no SHA-256 in base64"));
  }
  return Checksum{Checksum::Kind::kSha256, Hex(bytes)};
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
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  bool ok = EVP_DigestInit_ex(context.get(), FactsOf(wanted.kind).digest(), nullptr) == 1;
  if (wanted.kind == Checksum::Kind::kGitBlob) {
    std::string head = StrCat("blob ", info.st_size);
    head += '\0';
    EVP_DigestUpdate(context.get(), head.data(), head.size());
  }
  std::vector<char> buffer(kBufferBytes);
  ssize_t count = 1;
  while (ok && !*stop && (count = read(fd, buffer.data(), buffer.size())) > 0)
    ok = EVP_DigestUpdate(context.get(), buffer.data(), static_cast<size_t>(count)) == 1;
  const int error = errno;
  close(fd);
  if (*stop) return absl::CancelledError("interrupted");
  if (count < 0) return absl::UnavailableError(StrCat(path, ": ", ErrnoText(error)));
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  ok = ok && EVP_DigestFinal_ex(context.get(), digest, &length) == 1;
  if (!ok) return absl::InternalError("OpenSSL cannot compute this checksum");
  const std::string found = Hex({reinterpret_cast<const char*>(digest), length});
  if (found == wanted.hex) return absl::OkStatus();
  return absl::DataLossError(
      StrCat("its ", FactsOf(wanted.kind).name, " is ", found, ", not ", wanted.hex));
}

}  // namespace trireme::pull
