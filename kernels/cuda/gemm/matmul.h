// y = x w^T + bias on the matrix units of sm_80 and later (mma.sync), for plain and quantised
// weights; and the embedding gather, which reads the same tables.
//
// Weights are packed at load into the order in which lanes hold fragments of mma's A operand (the
// idea of Marlin, Frantar et al., 2024), 16 bytes a lane: no ldmatrix, no bank conflict, every
// sector used. Weights are the M side and tokens the N side of mma, so that one kernel serves 1
// token (N = 8) and thousands, with one chain of additions over K for each output, whatever the
// number of tokens: batch invariant. Q8_0, Q4_0 and Q4_1 are computed as stored: small integers are
// exact in `type`, a block's sum of products is scaled in F32.
#pragma once

#include "kernels/cuda/batch.h"

namespace trireme::cuda {

enum class MatrixFormat : uint8_t { kPlain, kQ8_0, kQ4_0, kQ4_1 };

// How a packed matrix lies: in fragments as above, or, plain weights for Hopper's wgmma, which
// takes tiles out of shared memory by itself, in rows.
enum class MatrixLayout : uint8_t { kFragments, kRows };

struct PackedMatrix {
  MatrixFormat format = MatrixFormat::kPlain;
  MatrixLayout layout = MatrixLayout::kFragments;
  DType type = DType::kBF16;  // of kPlain's elements, and of the activations it is multiplied with
  int64_t rows = 0, cols = 0;
  const void* data = nullptr;   // PackedBytes, device memory, 16-byte aligned
  const float* bias = nullptr;  // [rows], 16-byte aligned, or null
};

// The format that a tensor of `source` is packed in: Q8_0, Q4_0 and Q4_1 as they are, everything
// else widened (or rounded) to kPlain.
MatrixFormat FormatOf(DType source);
// Whether rows of `cols` can be packed: cols is a multiple of 8 (kPlain) or 32.
bool CanPack(MatrixFormat format, int64_t cols);
// What the current device multiplies fastest.
MatrixLayout LayoutFor(MatrixFormat format);
size_t PackedBytes(MatrixFormat format, int64_t rows, int64_t cols,
                   MatrixLayout layout = MatrixLayout::kFragments);
// Host side. Packs rows [first_tile * kTileRows, end_tile * kTileRows) of a [rows, cols] matrix of
// `source` at `rows_data` (no alignment promised) into `packed` (host memory, PackedBytes of so
// many rows); rows beyond the last are zeros. Tiles are independent, and lie one behind the other:
// several threads may share a matrix, and a large one may be packed piece by piece.
inline constexpr int64_t kTileRows = 16;
void PackTiles(DType source, const void* rows_data, DType type, int64_t rows, int64_t cols,
               int64_t first_tile, int64_t end_tile, void* packed,
               MatrixLayout layout = MatrixLayout::kFragments);

// x: [num_tokens, w.cols] of w.type, packed rows, 16-byte aligned. y: [num_tokens, y_stride] of
// w.type or, `f32_out`, F32: row t gets w.rows values.
cudaError_t MatMul(const PackedMatrix& w, const void* x, int64_t num_tokens, bool f32_out, void* y,
                   int64_t y_stride, cudaStream_t stream);

// x[t] = scale * row tokens[t] - first_token of the table; zeros for ids that the table does not
// have. x: [num_tokens, cols] F32.
cudaError_t Embed(const PackedMatrix& table, int64_t first_token, const int32_t* tokens,
                  int64_t num_tokens, float scale, float* x, cudaStream_t stream);

}  // namespace trireme::cuda
