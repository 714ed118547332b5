// Plain weights multiplied by NVIDIA's cuBLASLt in place of kernels/cuda/gemm (--gemm cublaslt).
//
// Not batch invariant: cuBLASLt chooses a kernel by the shape of the product, and may cut K into
// parts, so a token's bits depend on how many others share its step.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/cuda/gemm/matmul.h"

namespace trireme {

// From so many tokens on a product is no longer bound by reading the weights, where our own kernels
// are as good and batch invariant.
inline constexpr int64_t kMinCublasLtTokens = 128;

// Whether cuBLASLt multiplies `w`, in a backend that has it. It wants weights in rows; where our
// own kernels do not read these (`own_kernels_take_rows`), it does so for any number of tokens.
constexpr bool UsesCublasLt(const cuda::PackedMatrix& w, bool own_kernels_take_rows,
                            int64_t num_tokens) {
  return w.layout == cuda::MatrixLayout::kRows &&
         (num_tokens >= kMinCublasLtTokens || !own_kernels_take_rows);
}

// Of one device, used by one thread, which has made the device current.
class CublasLt {
 public:
  virtual ~CublasLt() = default;

  // As cuda::MatMul, for weights in rows. `bias`: [w.rows] of y's type, 16-byte aligned, or null;
  // w.bias is not used. What cuBLASLt chose for a shape is kept for the next product of that shape,
  // of some hundred shapes. May be captured into a graph.
  virtual absl::Status MatMul(const cuda::PackedMatrix& w, const void* bias, const void* x,
                              int64_t num_tokens, bool f32_out, void* y, int64_t y_stride,
                              cudaStream_t stream) = 0;
};

// Allocates what products need on the device. UNIMPLEMENTED in a build without cuBLASLt (CMake's
// TRIREME_CUBLASLT); RESOURCE_EXHAUSTED names the bytes needed and free.
absl::StatusOr<std::unique_ptr<CublasLt>> MakeCublasLt();

}  // namespace trireme
