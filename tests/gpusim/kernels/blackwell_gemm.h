// C = A B^T by tensor copies and tcgen05: blackwell_gemm.cu. sm_100a only.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>

namespace trireme::blackwell {

inline constexpr size_t kGemmSharedBytes = 111616;  // of a CTA, dynamic

// c [m][n] = a [m][k] b [n][k]^T, all on the device, 16-byte aligned; n is a multiple of 8.
struct Gemm {
  const void* a = nullptr;
  const void* b = nullptr;
  // NVFP4: a ue4m3 for 16 elements along k; tiles of 128 rows and 64 elements are 32 x 4 x 4 bytes,
  // by row % 32, row / 32 % 4, block. Rows and k are rounded up to whole tiles of 128 x 256.
  const void* scales_a = nullptr;
  const void* scales_b = nullptr;
  __nv_bfloat16* c = nullptr;
  int m = 0, n = 0, k = 0;
};

// By `ctas` persistent CTAs. cudaErrorInvalidValue where a tensor map does not take it: a row of a
// or b is no multiple of 16 bytes.
cudaError_t LaunchGemmBf16(const Gemm& gemm, int ctas, cudaStream_t stream);
cudaError_t LaunchGemmE4m3(const Gemm& gemm, int ctas, cudaStream_t stream);
cudaError_t LaunchGemmNvf4(const Gemm& gemm, int ctas, cudaStream_t stream);

}  // namespace trireme::blackwell
