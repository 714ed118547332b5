#include "runtime/base/huge_mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr size_t kHugePage = 2 << 20;
constexpr size_t kChunk = 4 << 20;  // between two looks at a stop token

}  // namespace

absl::StatusOr<std::shared_ptr<const HugeMapping>> HugeMapping::Of(int fd, size_t size) {
  std::shared_ptr<HugeMapping> mapping(new HugeMapping());
  const size_t region_bytes = size + kHugePage;
  void* const region =
      mmap(nullptr, region_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) return absl::ResourceExhaustedError(ErrnoText(errno));
  mapping->region_ = region;
  mapping->region_bytes_ = region_bytes;
  mapping->data_ =
      static_cast<uint8_t*>(region) + (-reinterpret_cast<uintptr_t>(region) & (kHugePage - 1));
  mapping->size_ = size;
  if (mmap(mapping->data_, size, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED) {
    return absl::ResourceExhaustedError(ErrnoText(errno));
  }
  madvise(mapping->data_, size, MADV_HUGEPAGE);  // a hint; may fail
  return mapping;
}

HugeMapping::~HugeMapping() {
  if (region_ != nullptr) munmap(region_, region_bytes_);
}

absl::Status CacheByHugePages(int fd, const std::stop_token& stop) {
  struct stat info = {};
  if (fstat(fd, &info) != 0) return absl::UnavailableError(ErrnoText(errno));
  const auto size = static_cast<size_t>(info.st_size);
  for (size_t at = 0; at < size; at += kChunk) {
    if (stop.stop_requested()) return absl::CancelledError("the process ends");
    const auto begin = static_cast<off_t>(at), bytes = static_cast<off_t>(kChunk);
    if (sync_file_range(fd, begin, bytes,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                            SYNC_FILE_RANGE_WAIT_AFTER) != 0 &&
        errno != ENOSYS && errno != EINVAL) {  // not for this file system
      return absl::UnavailableError(ErrnoText(errno));
    }
    posix_fadvise(fd, begin, bytes, POSIX_FADV_DONTNEED);  // a hint, as what follows
  }
  TRIREME_ASSIGN_OR_RETURN(const auto mapping, HugeMapping::Of(fd, size));
  auto* const data = const_cast<uint8_t*>(mapping->bytes().data());
  for (size_t at = 0; at < size && !stop.stop_requested(); at += kChunk) {
    madvise(data + at, std::min(kChunk, size - at), MADV_POPULATE_READ);
  }
  return absl::OkStatus();
}

}  // namespace trireme
