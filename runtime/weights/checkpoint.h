// A checkpoint on disk: named tensors, memory-mapped, every length checked before use.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/tensor_view.h"

namespace trireme {

// Immutable, thread-safe. Views live as long as the checkpoint.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;
  // NOT_FOUND when there is no such tensor. shape: outermost first ([rows, cols]), also for GGUF.
  virtual absl::StatusOr<TensorView> Find(std::string_view name) const = 0;
  virtual std::vector<std::string> Names() const = 0;
  virtual int64_t size_bytes() const = 0;  // of all tensors
  // Those that the tensors lie in, always in the same order.
  virtual std::vector<const MappedFile*> Files() const = 0;
  // DATA_LOSS once a file was found truncated while mapped; loaders call it after reading.
  virtual absl::Status Health() const = 0;
  // The pages of this tensor are no longer needed (it was repacked).
  virtual void Release(const TensorView& tensor) const = 0;
};

// Hugging Face safetensors: one file, or a directory with model.safetensors or
// model.safetensors.index.json.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenSafetensors(const std::string& path);

}  // namespace trireme
