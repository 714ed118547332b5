#pragma once

#include "kernels/cuda/gemm/hopper.h"

namespace trireme::cuda {

// Two warps above each other by 16 tokens, bf16. kHalfSum, kFirstScale: of kQ4_1; the others:
// kPlain.
cudaError_t LaunchMatMulMutant(const MatMulArgs& args, MatMulMutant mutant);

// 128 rows by 128 tokens, bf16.
cudaError_t LaunchHopperMutant(const HopperArgs& args, HopperMutant mutant);

}  // namespace trireme::cuda
