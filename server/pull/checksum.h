// Checksums as the sources of models give them.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trireme::pull {

struct Checksum {
  // kGitBlob: what git names a file by, the SHA-1 of "blob SIZE\0" and the content.
  // kCrc64Nvme: CRC-64/NVME, which S3 computes of every new object; against accidents only.
  enum class Kind { kSha256, kGitBlob, kMd5, kCrc64Nvme };
  Kind kind = Kind::kSha256;
  std::string hex;  // lower case, of the kind's length

  std::string Text() const;  // "sha256:..."
};

// INVALID_ARGUMENT unless `hex` is as many hexadecimal digits as the kind has; any case.
absl::StatusOr<Checksum> MakeChecksum(Checksum::Kind kind, std::string_view hex);

// "lWqk...", as S3 writes its checksums: the kind's bytes in base64. INVALID_ARGUMENT.
absl::StatusOr<Checksum> ChecksumFromBase64(Checksum::Kind kind, std::string_view text);

// Reads the file. DATA_LOSS names both when it has another one; CANCELLED once `*stop`.
absl::Status CheckFile(const std::string& path, const Checksum& wanted,
                       const std::atomic<bool>* stop);

}  // namespace trireme::pull
