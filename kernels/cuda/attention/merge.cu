// The chunks of decode rows, folded in ascending order: as a prefill CTA does in its registers. A
// warp takes the rows of one head of an item, one after the other.
#include "kernels/cuda/attention/launch.h"
#include "kernels/cuda/attention/softmax.cuh"
#include "kernels/cuda/primitives/elements.cuh"

namespace trireme::cuda {
namespace {

constexpr int kMergeWarps = 4, kMergeThreads = kMergeWarps * 32;

template <DType kType, int kHeadDim>
__global__ void __launch_bounds__(kMergeThreads)
    MergeChunks(const __grid_constant__ AttentionArguments a) {
  constexpr int kValues = kHeadDim / 32, kRowFloats = kHeadDim + kPartialRowExtra;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first = static_cast<int>((blockIdx.x * kMergeThreads + threadIdx.x) / 32);
  const int work = *a.count * a.num_heads;
  for (int w = first; w < work; w += static_cast<int>(gridDim.x) * kMergeWarps) {
    const AttentionItem item = a.items[w / a.num_heads];
    const int head = w % a.num_heads;
    for (int token = 0; token < item.num_tokens; ++token) {
      float o[kValues] = {}, max = -INFINITY, sum = 0.0f;
#pragma unroll 2
      for (int chunk = 0; chunk < item.end_chunk - item.first_chunk; ++chunk) {
        const int64_t row =
            item.partial + (int64_t{chunk} * item.num_tokens + token) * a.num_heads + head;
        const float* from = a.partials + row * kRowFloats;
        const float2 state = *reinterpret_cast<const float2*>(from + kHeadDim);
        const FoldFactors factors = Fold(state.x, state.y, &max, &sum);
#pragma unroll
        for (int i = 0; i < kValues; ++i) o[i] = Folded(o[i], from[lane + 32 * i], factors);
      }
      const float factor = Finish(max, sum, a.sinks, head);
      uint16_t* to = a.out + (item.first_token + token) * a.out_stride + head * kHeadDim;
#pragma unroll
      for (int i = 0; i < kValues; ++i) {
        to[lane + 32 * i] = static_cast<uint16_t>(Pack<kType>(Finished(o[i], factor), 0.0f));
      }
    }
  }
}

template <int kHeadDim>
cudaError_t LaunchOfHeadDim(const AttentionLaunch& launch, const AttentionArguments& a) {
  const int64_t most = (int64_t{launch.max_items} * a.num_heads + kMergeWarps - 1) / kMergeWarps;
  const int64_t resident = int64_t{launch.num_sms} * 8;  // what hides a load's time
  const auto grid = static_cast<unsigned>(most < resident ? most : resident);
  if (launch.type == DType::kBF16) {
    MergeChunks<DType::kBF16, kHeadDim><<<grid, kMergeThreads, 0, launch.stream>>>(a);
  } else {
    MergeChunks<DType::kF16, kHeadDim><<<grid, kMergeThreads, 0, launch.stream>>>(a);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t LaunchMerge(const AttentionLaunch& launch, int head_dim, const AttentionArguments& a) {
  switch (head_dim) {
    case 64:
      return LaunchOfHeadDim<64>(launch, a);
    case 96:
      return LaunchOfHeadDim<96>(launch, a);
    case 128:
      return LaunchOfHeadDim<128>(launch, a);
    case 256:
      return LaunchOfHeadDim<256>(launch, a);
  }
  return cudaErrorInvalidValue;
}

}  // namespace trireme::cuda
