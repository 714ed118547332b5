// A read-only memory-mapped file whose truncation by somebody else does not kill the process.
//
// Touching a page behind the new end of a truncated file raises SIGBUS. The first Open installs a
// handler that, for an address inside one of our mappings, puts a zero page there and marks the
// file as damaged; other faults go to the handler that was there before. Readers check damaged()
// when they are done and refuse the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace trireme {

class MappedFile {
 public:
  // NOT_FOUND, PERMISSION_DENIED or INVALID_ARGUMENT (not a regular file, empty).
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // Valid until destruction. Thread-safe.
  absl::Span<const uint8_t> bytes() const { return {data_, size_}; }

  // When it was opened: a file that was replaced or written since differs in one of them, or in
  // its size.
  uint64_t inode() const { return inode_; }
  int64_t modified_ns() const { return modified_ns_; }  // since the epoch

  // True once any reader has touched a page that the file no longer has.
  bool damaged() const;

  // Tells the kernel that the pages of this range are not needed soon; their content stays
  // readable.
  void Release(size_t offset, size_t length) const;

 private:
  MappedFile(const uint8_t* data, size_t size, int slot, uint64_t inode, int64_t modified_ns)
      : data_(data), size_(size), inode_(inode), modified_ns_(modified_ns), slot_(slot) {}
  const uint8_t* const data_;
  const size_t size_;
  const uint64_t inode_;
  const int64_t modified_ns_;
  const int slot_;  // index into the table that the signal handler reads
};

}  // namespace trireme
