// Files mapped by huge pages, for what is read all over again and again: with pages of 4 KiB, TLB
// misses cost several percent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace trireme {

// A file, read-only. Huge pages are what the file system has of it in its cache: ext4 and XFS since
// Linux 6.16 if the file was read through such a mapping, others never; then it is mapped all the
// same. One who cuts the file off while it is mapped ends this process by SIGBUS.
class HugeMapping {
 public:
  // The first `size` bytes of the file, which may be closed afterwards. RESOURCE_EXHAUSTED.
  static absl::StatusOr<std::shared_ptr<const HugeMapping>> Of(int fd, size_t size);
  ~HugeMapping();
  HugeMapping(const HugeMapping&) = delete;

  // Page-aligned.
  absl::Span<const uint8_t> bytes() const { return {data_, size_}; }

 private:
  HugeMapping() = default;

  void* region_ = nullptr;  // reserved addresses, within which data_ is aligned to a huge page
  size_t region_bytes_ = 0;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// What was written lies in the cache in small pages: brings the file to the disk, drops it from the
// cache and reads it as HugeMapping maps it. CANCELLED soon after `stop`; UNAVAILABLE, what the
// disk refuses.
absl::Status CacheByHugePages(int fd, const std::stop_token& stop);

}  // namespace trireme
