// The peer of our matrix products: cuBLASLt, bf16 in and out, sums in F32.
#pragma once

#include <cublasLt.h>

#include <cstdint>

#include "tests/bench/gpu/measure.h"

namespace trireme::bench {

// y [tokens, rows] = x [tokens, cols] w [rows, cols]^T, all bf16. The library's own first choice
// with a workspace of 32 MiB.
class CublasLt {
 public:
  CublasLt(int64_t rows, int64_t cols, int64_t tokens);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  void Multiply(const void* w, const void* x, void* y) const;

 private:
  static constexpr size_t kWorkspaceBytes = 32 << 20;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t matmul_ = nullptr;
  cublasLtMatrixLayout_t w_ = nullptr, x_ = nullptr, y_ = nullptr;
  cublasLtMatmulAlgo_t algorithm_ = {};
  Memory workspace_{kWorkspaceBytes};
};

}  // namespace trireme::bench
