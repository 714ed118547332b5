// What the host tells the kernels of MatMul; internal to this folder.
#pragma once

#include "kernels/cuda/gemm/layout.h"
#include "kernels/cuda/gemm/tile.h"

namespace trireme::cuda {

struct MatMulArgs {
  const uint8_t* weights = nullptr;
  const float* bias = nullptr;
  const uint16_t* x = nullptr;
  void* y = nullptr;
  int64_t y_stride = 0;
  int rows = 0, cols = 0, num_tokens = 0;
  int num_tiles = 0, steps = 0;
  bool f32_out = false;
  bool aligned = false;  // four elements of a row of y may be stored at once
};

// One file each, so that they compile beside each other.
cudaError_t LaunchPlain(DType type, const MatMulArgs& args, MatMulTile tile, cudaStream_t stream);
cudaError_t LaunchQ8_0(DType type, const MatMulArgs& args, MatMulTile tile, cudaStream_t stream);
cudaError_t LaunchQ4_0(DType type, const MatMulArgs& args, MatMulTile tile, cudaStream_t stream);
cudaError_t LaunchQ4_1(DType type, const MatMulArgs& args, MatMulTile tile, cudaStream_t stream);

// Faults that tests plant (tests/kernels/cuda/gemm/mutants); the product's kernels are kNone.
enum class MatMulMutant {
  kNone,
  kNoBarrier,
  kNoBarrierBeforeOutput,
  kNoBarrierBeforeStore,
  kLaxWait,
  kNoCommit,
  kWrongStageStride,
  kNoSwizzle,
  kNoZeroFill,
  kNoColumnTail,
  kNoTokenBound,
  kNoRowTileBound,
  kHalfSum,
  kFirstScale,
};

}  // namespace trireme::cuda
