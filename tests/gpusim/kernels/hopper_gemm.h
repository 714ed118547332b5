// C = A B^T by tensor copies and wgmma: hopper_gemm.cu. sm_90a only.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>

namespace trireme::hopper {

inline constexpr size_t kGemmSharedBytes = 164864;  // of a CTA, dynamic

// c [m][n] = a [m][k] b [n][k]^T on the device, 16-byte aligned. cudaErrorInvalidValue where a
// tensor map does not take it: k or n is no multiple of 8.
cudaError_t LaunchGemm(const __nv_bfloat16* a, const __nv_bfloat16* b, __nv_bfloat16* c, int m,
                       int n, int k, cudaStream_t stream);

}  // namespace trireme::hopper
