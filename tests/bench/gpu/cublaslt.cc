#include "tests/bench/gpu/cublaslt.h"

#include <cstdio>
#include <cstdlib>

namespace trireme::bench {
namespace {

void Check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  std::fprintf(stderr, "gpu_bench: cuBLASLt: %s: %s\n", what, cublasLtGetStatusString(status));
  std::exit(1);
}

}  // namespace

// cuBLASLt counts in columns: to it x, w and y are x^T, w^T and y^T, and D = op(W) X.
CublasLt::CublasLt(int64_t rows, int64_t cols, int64_t tokens) {
  const auto at = [](int64_t n) { return static_cast<uint64_t>(n); };
  Check(cublasLtCreate(&handle_), "starting");
  Check(cublasLtMatmulDescCreate(&matmul_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing");
  const int32_t transposed = CUBLAS_OP_T;
  Check(cublasLtMatmulDescSetAttribute(matmul_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                       sizeof(transposed)),
        "describing");
  Check(cublasLtMatrixLayoutCreate(&w_, CUDA_R_16BF, at(cols), at(rows), cols), "describing");
  Check(cublasLtMatrixLayoutCreate(&x_, CUDA_R_16BF, at(cols), at(tokens), cols), "describing");
  Check(cublasLtMatrixLayoutCreate(&y_, CUDA_R_16BF, at(rows), at(tokens), rows), "describing");
  cublasLtMatmulPreference_t preference = nullptr;
  Check(cublasLtMatmulPreferenceCreate(&preference), "choosing");
  const size_t bytes = kWorkspaceBytes;
  Check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &bytes, sizeof(bytes)),
        "choosing");
  cublasLtMatmulHeuristicResult_t result;
  int found = 0;
  Check(cublasLtMatmulAlgoGetHeuristic(handle_, matmul_, w_, x_, y_, y_, preference, 1, &result,
                                       &found),
        "choosing");
  cublasLtMatmulPreferenceDestroy(preference);
  Check(found == 1 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED, "choosing");
  algorithm_ = result.algo;
}

CublasLt::~CublasLt() {
  for (const cublasLtMatrixLayout_t layout : {w_, x_, y_}) cublasLtMatrixLayoutDestroy(layout);
  cublasLtMatmulDescDestroy(matmul_);
  cublasLtDestroy(handle_);
}

void CublasLt::Multiply(const void* w, const void* x, void* y) const {
  const float one = 1, zero = 0;
  Check(cublasLtMatmul(handle_, matmul_, &one, w, w_, x, x_, &zero, y, y_, y, y_, &algorithm_,
                       workspace_.get(), kWorkspaceBytes, nullptr),
        "multiplying");
}

}  // namespace trireme::bench
