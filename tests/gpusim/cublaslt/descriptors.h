// What a program says of a matmul, attribute by attribute, in the memory that cublasLt.h has for
// it.
#pragma once

#include <cublasLt.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace trireme::gpusim {

// Defaults as in cublasLt.h.
struct Layout {
  int32_t type = CUDA_R_32F;
  int32_t order = CUBLASLT_ORDER_COL;
  uint64_t rows = 0, cols = 0;
  int64_t ld = 0;
  int32_t batch_count = 1;
  int64_t batch_stride = 0;  // elements
};

struct Matmul {
  int32_t compute_type = CUBLAS_COMPUTE_32F, scale_type = CUDA_R_32F;
  int32_t pointer_mode = CUBLASLT_POINTER_MODE_HOST;
  int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N, transpose_c = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  int32_t bias_type = -1;  // that of D
  int32_t sm_count_target = 0;
  int32_t a_scale_mode = 0, b_scale_mode = 0, d_scale_mode = 0;
  int8_t fast_accumulation = 0;
  const void* bias = nullptr;
  int64_t bias_batch_stride = 0;
  const void *a_scale = nullptr, *b_scale = nullptr, *c_scale = nullptr, *d_scale = nullptr;
  void* d_largest = nullptr;
};

struct Preference {
  uint64_t max_workspace_bytes = 0;
  uint32_t search_mode = CUBLASLT_SEARCH_BEST_FIT;
  uint32_t reduction_schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t min_alignment[4] = {256, 256, 256, 256};  // of A, B, C, D
  float max_waves = 0;
};

// What the heuristics put into cublasLtMatmulAlgo_t.
struct Algorithm {
  static constexpr uint64_t kMagic = 0x7472692d616c676f;
  uint64_t magic = 0;
  int32_t split_k = 1;  // parts of k that are added up at the end
  uint32_t alignment[4] = {};
  uint64_t workspace_bytes = 0;
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

template <typename T, typename Opaque>
T& In(Opaque* opaque) {
  static_assert(sizeof(T) <= sizeof(Opaque));
  return *reinterpret_cast<T*>(opaque);
}

// Counts a call of the current device, and fails it on demand.
cublasStatus_t BeginLtCall();

// Says `what` on stderr and hands the status on.
cublasStatus_t ExplainLt(cublasStatus_t status, const std::string& what);

}  // namespace trireme::gpusim
