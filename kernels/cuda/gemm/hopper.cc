#include "kernels/cuda/gemm/hopper.h"

#include <algorithm>

#include "kernels/cuda/primitives/device.h"

namespace trireme::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

// Of the driver, which the program does not link: without one it still starts. Null: not there.
Encode FindEncode() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault,
                                       &result) != cudaSuccess ||
      result != cudaDriverEntryPointSuccess) {
    return nullptr;
  }
  return reinterpret_cast<Encode>(found);
}

// Boxes of `box_rows` lines of 64 elements under the 128-byte swizzle; zeros beyond the end.
cudaError_t EncodeRows(DType type, const void* data, int64_t rows, int64_t cols, int box_rows,
                       CUtensorMap* map) {
  static const Encode encode = FindEncode();
  if (encode == nullptr) return cudaErrorNotSupported;
  const cuuint64_t dims[] = {static_cast<cuuint64_t>(cols), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(cols * 2)};
  const cuuint32_t box[] = {kStepCols, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t element_strides[] = {1, 1};
  const CUresult result = encode(
      map,
      type == DType::kBF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2,
      const_cast<void*>(data), dims, strides, box, element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace

int ChooseHopperTokens(int64_t num_tokens, int64_t rows, int num_sms) {
  int best = 0;
  int64_t best_cycles = 0;
  for (const int tokens : kHopperTokenTiles) {
    const int cta_rows = HopperRows(tokens);
    const int64_t ctas = CeilDiv(num_tokens, tokens) * CeilDiv(rows, cta_rows);
    // A step of 64 columns: 4096 fused multiplies a cycle, or some 64 bytes a cycle from L2.
    const int64_t multiplies = int64_t{cta_rows} * tokens * kStepCols / 4096;
    const int64_t bytes = int64_t{cta_rows + tokens} * kStepCols * 2 / 64;
    const int64_t cycles = CeilDiv(ctas, num_sms) * std::max(multiplies, bytes);
    if (best == 0 || cycles <= best_cycles) {
      best = tokens;
      best_cycles = cycles;
    }
    if (tokens >= num_tokens) break;  // a wider tile would be padding
  }
  return best;
}

cudaError_t MakeHopperArgs(const PackedMatrix& w, const MatMulArgs& args, int tokens,
                           HopperArgs* hopper) {
  hopper->shapes = args;
  const cudaError_t error =
      EncodeRows(w.type, w.data, w.rows, w.cols, HopperRows(tokens), &hopper->weights);
  if (error != cudaSuccess) return error;
  return EncodeRows(w.type, args.x, args.num_tokens, w.cols, tokens, &hopper->x);
}

cudaError_t MatMulHopper(const PackedMatrix& w, const MatMulArgs& args, int tokens,
                         cudaStream_t stream) {
  HopperArgs hopper;
  const cudaError_t error = MakeHopperArgs(w, args, tokens, &hopper);
  return error != cudaSuccess ? error : LaunchHopper(w.type, hopper, tokens, stream);
}

}  // namespace trireme::cuda
