// CTAs that wait for each other.
#include <cooperative_groups.h>

#include "tests/gpusim/kernels/cooperative.h"

namespace trireme {

// Each CTA adds its own value to all others' of the round before: rounds are kept apart by the
// grid's barrier, or (wrongly) by nothing.
template <bool synchronises>
__global__ void __launch_bounds__(64) Rounds(int* values, int rounds) {
  const int cta = static_cast<int>(blockIdx.x), ctas = static_cast<int>(gridDim.x);
  int* from = values;
  int* to = values + ctas;
  for (int round = 0; round < rounds; ++round) {
    if (threadIdx.x == 0) {
      int sum = 0;
      for (int i = 0; i < ctas; ++i) sum += from[i];
      to[cta] = sum + cta;
    }
    if constexpr (synchronises) cooperative_groups::this_grid().sync();
    int* const swapped = from;
    from = to;
    to = swapped;
  }
}

// The last CTA to arrive adds up what all have written ("threadFenceReduction").
template <bool fences>
__global__ void __launch_bounds__(32) LastAddsUp(const int* values, int* parts, unsigned* arrived, int* sum) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = values[blockIdx.x];
    if constexpr (fences) __threadfence();
    last = atomicAdd(arrived, 1u) == gridDim.x - 1;
    if constexpr (fences) __threadfence();
  }
  __syncthreads();
  if (!last || threadIdx.x != 0) return;
  int total = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) total += parts[i];
  *sum = total;
}

cudaError_t LaunchRounds(int ctas, int* values, int rounds, bool synchronises) {
  void* args[] = {&values, &rounds};
  const void* const kernel = synchronises ? reinterpret_cast<const void*>(&Rounds<true>)
                                          : reinterpret_cast<const void*>(&Rounds<false>);
  return cudaLaunchCooperativeKernel(kernel, dim3(ctas), dim3(64), args, 0, nullptr);
}

cudaError_t LaunchLastAddsUp(int ctas, const int* values, int* parts, unsigned* arrived, int* sum,
                             bool fences) {
  auto* const kernel = fences ? &LastAddsUp<true> : &LastAddsUp<false>;
  kernel<<<ctas, 32>>>(values, parts, arrived, sum);
  return cudaGetLastError();
}

}  // namespace trireme
