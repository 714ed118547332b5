// Named tensors inside mapped files: what both checkpoint formats come down to once their headers
// are read.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/tensor_view.h"

namespace trireme {

// Filled by one thread, then immutable and thread-safe.
class TensorTable {
 public:
  // Takes the file; its bytes stay valid as long as the table.
  const MappedFile& AddFile(std::unique_ptr<MappedFile> file);

  // Adds tensor `name` of `dtype` and `shape` (outermost first) at `offset` of `data`, a range of a
  // file of this table. INVALID_ARGUMENT names the tensor: a known name, sizes that overflow, rows
  // that are not whole blocks, bytes outside `data`.
  absl::Status Add(std::string_view name, DType dtype, absl::Span<const int64_t> shape,
                   absl::Span<const uint8_t> data, uint64_t offset);
  // INVALID_ARGUMENT names two tensors that share bytes.
  absl::Status CheckNoOverlap() const;

  // What Checkpoint promises (checkpoint.h).
  absl::StatusOr<TensorView> Find(std::string_view name) const;
  std::vector<std::string> Names() const;  // in alphabetical order
  int64_t size_bytes() const;
  absl::Status Health() const;
  void Release(const TensorView& tensor) const;
  std::vector<const MappedFile*> Files() const;

 private:
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::map<std::string, TensorView, std::less<>> tensors_;
};

}  // namespace trireme
