// What every backend asks of the parts that a matrix is stacked from.
#pragma once

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/base/tensor_view.h"

namespace trireme {

// INVALID_ARGUMENT unless there is at least one part, all are [rows, cols] of whole quantisation
// blocks and the same cols, and `bias` is empty or has one element for each row of them all.
absl::Status CheckParts(absl::Span<const TensorView> parts, absl::Span<const TensorView> bias);

}  // namespace trireme
