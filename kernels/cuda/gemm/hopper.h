// Plain weights on Hopper's warpgroups (sm_90a); internal to this folder.
#pragma once

#include <cuda.h>

#include "kernels/cuda/gemm/matmul_args.h"

namespace trireme::cuda {

// What a CTA computes: 64 rows, or, from 128 tokens on, two warpgroups' 128.
inline constexpr int kHopperTokenTiles[] = {8, 16, 32, 64, 128, 256};
constexpr int HopperRows(int tokens) { return tokens < 128 ? 64 : 128; }
// The tile of tokens of the fewest modelled cycles.
int ChooseHopperTokens(int64_t num_tokens, int64_t rows, int num_sms);

struct HopperArgs {
  CUtensorMap weights;  // [rows][cols], boxes of HopperRows x 64
  CUtensorMap x;        // [num_tokens][cols], boxes of `tokens` x 64
  MatMulArgs shapes;    // its weights and x are not used
};
// The tensor maps of a launch. cudaErrorNotSupported: the driver cannot encode them.
cudaError_t MakeHopperArgs(const PackedMatrix& w, const MatMulArgs& args, int tokens,
                           HopperArgs* hopper);
// MatMul of weights in rows, by a tile of the caller's choice.
cudaError_t MatMulHopper(const PackedMatrix& w, const MatMulArgs& args, int tokens,
                         cudaStream_t stream);
cudaError_t LaunchHopper(DType type, const HopperArgs& args, int tokens, cudaStream_t stream);

// Faults that tests plant, as MatMulMutant.
enum class HopperMutant {
  kNone,
  kNoWaitForEmpty,
  kGivesBackEarly,
  kNoWgmmaFence,
  kNoLastWait,
  kNoBarrierBeforeOutput,
  kNoBarrierBeforeStore,
};

}  // namespace trireme::cuda
