// Brings a checkpoint's tensors, or a rank's part of them, to a backend: looked up by name, their
// shapes checked, prepared, their pages released.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/backend/backend.h"
#include "runtime/model/shard.h"
#include "runtime/weights/checkpoint.h"

namespace trireme {

// Called as loading goes on, with bytes of the checkpoint.
using LoadProgress = std::function<void(int64_t done_bytes, int64_t total_bytes)>;

// Used by one thread. Errors name the tensor and the shapes found and wanted.
class WeightLoader {
 public:
  // All are kept by the caller; `progress` may be empty. Without a backend everything is looked up
  // and checked, no weight is read or prepared, and the weights returned are null.
  WeightLoader(const Checkpoint& checkpoint, Backend* backend, const LoadProgress& progress)
      : checkpoint_(checkpoint), backend_(backend), progress_(progress) {}

  struct Part {
    std::string name;  // ends in "weight"
    Axis rows;
  };
  // kElsewhere: the tensors must be there, another rank adds them.
  enum class Bias { kNone, kAdded, kElsewhere };
  // The parts [rows, cols] stacked, with their biases [rows].
  absl::StatusOr<std::unique_ptr<Weight>> Matrix(const std::vector<Part>& parts, const Axis& cols,
                                                 Bias bias);
  // [rows, cols], for gathering rows and, when the head is tied to it, for products. `rows` has one
  // slice.
  absl::StatusOr<std::unique_ptr<Weight>> Embedding(const std::string& name, const Axis& rows,
                                                    int64_t cols);
  // [size], times `scale`.
  absl::StatusOr<std::unique_ptr<Weight>> Vector(const std::string& name, int64_t size,
                                                 float scale = 1.0f);
  // INVALID_ARGUMENT when the checkpoint has a tensor that nothing above asked for (the model would
  // be another one than the file's), unless its name ends in one of these suffixes. DATA_LOSS when
  // the file was damaged meanwhile.
  absl::Status Finish(const std::vector<std::string>& unused_suffixes);

 private:
  absl::StatusOr<TensorView> Find(const std::string& name,
                                  const absl::InlinedVector<int64_t, 4>& shape);
  absl::StatusOr<std::vector<float>> FindVector(const std::string& name, int64_t size);
  void Report() const;

  const Checkpoint& checkpoint_;
  Backend* const backend_;
  const LoadProgress& progress_;
  std::set<std::string> used_;
  int64_t used_bytes_ = 0;  // of the tensors in used_
};

}  // namespace trireme
