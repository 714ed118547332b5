#pragma once

#include "kernels/cuda/gemm/matmul_args.h"

namespace trireme::cuda {

// Two warps above each other by 16 tokens, bf16. kHalfSum, kFirstScale: of kQ4_1; the others:
// kPlain.
cudaError_t LaunchMatMulMutant(const MatMulArgs& args, MatMulMutant mutant);

}  // namespace trireme::cuda
