#include "runtime/backend/matrix_parts.h"

namespace trireme {

absl::Status CheckParts(absl::Span<const TensorView> parts, absl::Span<const TensorView> bias) {
  if (parts.empty()) return absl::InvalidArgumentError("a matrix needs at least one part");
  for (const TensorView& part : parts) {
    if (part.shape.size() != 2 || part.cols() != parts[0].cols() || part.cols() <= 0 ||
        part.rows() <= 0 || part.cols() % BlockSize(part.dtype) != 0) {
      return absl::InvalidArgumentError("parts of a matrix must be [rows, cols], cols all alike");
    }
  }
  if (bias.empty()) return absl::OkStatus();
  if (bias.size() != parts.size()) {
    return absl::InvalidArgumentError("one bias per part of a matrix, or none");
  }
  for (size_t i = 0; i < bias.size(); ++i) {
    if (bias[i].num_elements() != parts[i].rows()) {
      return absl::InvalidArgumentError("a bias must have one element per row");
    }
  }
  return absl::OkStatus();
}

}  // namespace trireme
