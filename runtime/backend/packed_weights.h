// A file of matrices as the CPU computes on them (kernels/cpu/gemm_layout.h), mapped at start in
// place of packing them:
//
//   [header][table: one entry for each matrix][matrices, each 64-byte aligned]
//
// The file belongs to one checkpoint as it was when the file was written: size, inode and time of
// change of each of its files. A matrix is known by where in these files its parts lie. Nothing in
// the file is believed: header and table have a checksum, each matrix has one that Find compares;
// whatever does not fit is packed from the checkpoint, and the file written anew. A file that
// another user owns (but root) or may write is not read at all.
//
// It is mapped by huge pages where the file system has them in its cache (ext4, XFS and others
// since Linux 6.16): a decode step reads all of it, and pays several percent for TLB misses
// otherwise.
//
// While the file is mapped nobody but its owner can change it; one who cuts it off under a running
// process ends that process (SIGBUS) rather than have it answer from zeros.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/base/huge_mapping.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/tensor_view.h"

namespace trireme {

// Used by one thread.
class PackedWeights {
 public:
  using ParallelFor = std::function<void(int n, const std::function<void(int)>& fn)>;

  // Maps the file at `path` if it is there and fits; a file that does not is told of in the log.
  // `sources`: the checkpoint's files, kept by the caller until the last Find or Add.
  static std::shared_ptr<PackedWeights> Open(const std::string& path,
                                             absl::Span<const MappedFile* const> sources);
  // Gives up a file that is being written, and leaves nothing of it: within moments, unless the
  // disk hangs.
  ~PackedWeights();

  // The matrix packed from `parts`, `size_bytes` long, read-only, or null. Valid as long as it is
  // held. Runs the check on all threads.
  std::shared_ptr<uint8_t> Find(absl::Span<const TensorView> parts, size_t size_bytes,
                                const ParallelFor& parallel);
  // What Find did not have. `packed` does not change any more.
  void Add(absl::Span<const TensorView> parts, std::shared_ptr<uint8_t> packed, size_t size_bytes);

  // Writes all matrices to a new file in place of the old one, unless none was added. Two processes
  // may do so at once: one of them writes, CANCELLED for the other, as for who is asked to stop.
  absl::Status Write(const std::stop_token& stop) const;
  // The same on a thread of its own; the log tells what came of it.
  void StartWriting();

  int num_found() const { return num_found_; }
  int num_added() const { return num_added_; }
  // Of matrices that Find gave: weights in memory, though the system counts them as a file's cache.
  int64_t mapped_bytes() const { return mapped_bytes_; }

 private:
  struct Entry;  // of the table
  struct Matrix {
    uint64_t key;
    std::shared_ptr<uint8_t> data;
    size_t size_bytes;
  };

  PackedWeights(std::string path, absl::Span<const MappedFile* const> sources);
  absl::Status Map();
  // 0: a part is not in the checkpoint (cut columns).
  uint64_t KeyOf(absl::Span<const TensorView> parts) const;
  absl::Status WriteFile(int fd, const std::stop_token& stop) const;

  const std::string path_;
  const std::vector<const MappedFile*> sources_;
  const uint64_t source_;                             // checksum of what `sources` are
  std::shared_ptr<const HugeMapping> mapping_;        // null: there is no file to use
  std::unordered_map<uint64_t, const Entry*> table_;  // by key, into the mapping
  std::vector<Matrix> matrices_;                      // all, for the file to write
  int num_found_ = 0, num_added_ = 0;
  int64_t mapped_bytes_ = 0;
  std::jthread writer_;
};

}  // namespace trireme
