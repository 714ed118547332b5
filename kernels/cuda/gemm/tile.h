// Which part of y a CTA computes. Any tile gives the same bits: K is walked in one chain whatever
// the tile.
#pragma once

#include "kernels/cuda/gemm/matmul.h"

namespace trireme::cuda {

struct MatMulTile {
  int tokens = 0;     // 8, 16, 32, 64 or 128
  int row_warps = 0;  // 1, 2 or 4 warps above each other

  int rows() const { return row_warps * (tokens <= 32 ? 16 : 32); }
  // With 128 tokens two warps lie beside each other.
  int threads() const { return row_warps * (tokens == 128 ? 64 : 32); }
};
inline constexpr int kTokenTiles[] = {8, 16, 32, 64, 128};
inline constexpr int kMaxRowWarps = 4;

// The tile of the fewest modelled cycles on `num_sms` SMs.
MatMulTile ChooseTile(MatrixFormat format, int64_t num_tokens, int64_t rows, int num_sms);

// MatMul with a tile of the caller's choice. Weights in rows: kHopperTokenTiles of hopper.h, and
// row_warps does not matter.
cudaError_t MatMulTiled(const PackedMatrix& w, const void* x, int64_t num_tokens, bool f32_out,
                        void* y, int64_t y_stride, MatMulTile tile, cudaStream_t stream);

}  // namespace trireme::cuda
