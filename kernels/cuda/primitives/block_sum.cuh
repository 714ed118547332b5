// Sums over the threads of a CTA, in one order.
#pragma once

namespace trireme::cuda {

// Over groups of kLanes neighbouring lanes; every lane gets the same bits. The whole warp takes
// part.
template <int kLanes = 32>
__device__ inline float WarpSum(float x) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(0xffffffffu, x, offset);
  }
  return x;
}

// Over a CTA of whole warps: every thread gets the same bits. `sums`: shared memory, one for each
// of up to 32 warps, free again behind the CTA's next barrier.
__device__ inline float BlockSum(float x, float* sums) {
  const unsigned lane = threadIdx.x % 32, num_warps = blockDim.x / 32;
  x = WarpSum(x);
  if (lane == 0) sums[threadIdx.x / 32] = x;
  __syncthreads();
  return WarpSum(lane < num_warps ? sums[lane] : 0.0f);
}

}  // namespace trireme::cuda
