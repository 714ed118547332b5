// A borrowed tensor: where it is, what it holds, how large it is. Row-major, contiguous, last
// dimension fastest.
#pragma once

#include <cstdint>
#include <string>

#include "absl/container/inlined_vector.h"
#include "runtime/base/dtype.h"

namespace trireme {

struct TensorView {
  const void* data = nullptr;  // not owned; no alignment promised (files align as they like)
  DType dtype = DType::kF32;
  absl::InlinedVector<int64_t, 4> shape;  // outermost first; quantised along the last dimension

  int64_t num_elements() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
  // A matrix [rows, cols]; a vector is one row.
  int64_t cols() const { return shape.empty() ? 1 : shape.back(); }
  int64_t rows() const { return cols() == 0 ? 0 : num_elements() / cols(); }
  int64_t row_bytes() const { return RowBytes(dtype, cols()); }
  int64_t size_bytes() const { return rows() * row_bytes(); }
};

}  // namespace trireme
