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
  int64_t rows = 0;
  for (const TensorView& part : parts) rows += part.rows();
  for (const TensorView& part : bias) rows -= part.num_elements();
  if (rows == 0) return absl::OkStatus();
  return absl::InvalidArgumentError("a bias must have one element per row");
}

}  // namespace trireme
