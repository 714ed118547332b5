#include <algorithm>

#include "kernels/cuda/gemm/hopper.h"
#include "kernels/cuda/primitives/device.h"

namespace trireme::cuda {
namespace {

// Cycles that a step of 64 columns keeps an SM busy: multiplying (1024 fused multiplies a cycle, as
// on A100), or waiting for memory (its share is some 16 bytes a cycle of weights, 48 of x from L2).
int64_t StepCycles(MatrixFormat format, const MatMulTile& tile) {
  const int64_t multiplies = int64_t{tile.rows()} * tile.tokens * kStepCols / 1024;
  const int64_t weights = int64_t{tile.rows()} / kTileRows * StepBytes(format) / 16;
  const int64_t x = int64_t{tile.tokens} * kStepCols * 2 / 48;
  return std::max(multiplies, weights + x);
}

// What a step costs beside that, for barriers and latencies; and how many CTAs of an SM hide that
// from each other.
constexpr int64_t kStepLatency = 200, kOverlap = 4;

MatMulArgs ArgsOf(const PackedMatrix& w, const void* x, int64_t num_tokens, bool f32_out, void* y,
                  int64_t y_stride) {
  const uintptr_t four = f32_out ? 16 : 8;  // bytes of four elements
  return {
      .weights = static_cast<const uint8_t*>(w.data),
      .bias = w.bias,
      .x = static_cast<const uint16_t*>(x),
      .y = y,
      .y_stride = y_stride,
      .rows = static_cast<int>(w.rows),
      .cols = static_cast<int>(w.cols),
      .num_tokens = static_cast<int>(num_tokens),
      .num_tiles = static_cast<int>(NumTiles(w.rows)),
      .steps = static_cast<int>(NumSteps(w.cols)),
      .f32_out = f32_out,
      .aligned = y_stride % 4 == 0 && reinterpret_cast<uintptr_t>(y) % four == 0,
  };
}

}  // namespace

MatrixLayout LayoutFor(MatrixFormat format) {
  return format == MatrixFormat::kPlain && DeviceAttribute<cudaDevAttrComputeCapabilityMajor>() == 9
             ? MatrixLayout::kRows
             : MatrixLayout::kFragments;
}

MatMulTile ChooseTile(MatrixFormat format, int64_t num_tokens, int64_t rows, int num_sms) {
  MatMulTile best;
  int64_t best_cycles = 0;
  for (const int tokens : kTokenTiles) {
    for (const int row_warps : {1, 2, 4}) {
      const MatMulTile tile{tokens, row_warps};
      const int64_t ctas = CeilDiv(num_tokens, tokens) * CeilDiv(rows, tile.rows());
      const int64_t on_one_sm = CeilDiv(ctas, num_sms);
      const int64_t cycles =
          on_one_sm * StepCycles(format, tile) + CeilDiv(on_one_sm, kOverlap) * kStepLatency;
      if (best.tokens == 0 || cycles <= best_cycles) {
        best = tile;
        best_cycles = cycles;
      }
    }
    if (tokens >= num_tokens) break;  // a wider tile would be padding
  }
  return best;
}

cudaError_t MatMulTiled(const PackedMatrix& w, const void* x, int64_t num_tokens, bool f32_out,
                        void* y, int64_t y_stride, MatMulTile tile, cudaStream_t stream) {
  if (num_tokens == 0) return cudaSuccess;
  const MatMulArgs args = ArgsOf(w, x, num_tokens, f32_out, y, y_stride);
  if (w.layout == MatrixLayout::kRows) return MatMulHopper(w, args, tile.tokens, stream);
  switch (w.format) {
    case MatrixFormat::kPlain:
      return LaunchPlain(w.type, args, tile, stream);
    case MatrixFormat::kQ8_0:
      return LaunchQ8_0(w.type, args, tile, stream);
    case MatrixFormat::kQ4_0:
      return LaunchQ4_0(w.type, args, tile, stream);
    case MatrixFormat::kQ4_1:
      return LaunchQ4_1(w.type, args, tile, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t MatMul(const PackedMatrix& w, const void* x, int64_t num_tokens, bool f32_out, void* y,
                   int64_t y_stride, cudaStream_t stream) {
  const int num_sms = NumSms();
  const MatMulTile tile =
      w.layout == MatrixLayout::kRows
          ? MatMulTile{.tokens = ChooseHopperTokens(num_tokens, w.rows, num_sms)}
          : ChooseTile(w.format, num_tokens, w.rows, num_sms);
  return MatMulTiled(w, x, num_tokens, f32_out, y, y_stride, tile, stream);
}

}  // namespace trireme::cuda
