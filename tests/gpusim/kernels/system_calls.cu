#include "tests/gpusim/kernels/system_calls.h"

#include <cassert>
#include <cstdio>

namespace {

__global__ void __launch_bounds__(kMostValues) Count(const int* values, int n, int* counts) {
  assert(n <= kMostValues);
  const int i = static_cast<int>(threadIdx.x);
  const bool positive = i < n && values[i] > 0;
  const int count = __syncthreads_count(positive);
  const int all = __syncthreads_and(positive || i >= n);
  const int any = __syncthreads_or(positive);
  if (i != 0) return;
  printf("%d of %d\n", count, n);
  counts[0] = count;
  counts[1] = all;
  counts[2] = any;
}

}  // namespace

cudaError_t LaunchCount(const int* values, int n, int* counts) {
  Count<<<1, kMostValues>>>(values, n, counts);
  return cudaGetLastError();
}

cudaError_t CountAttributes(cudaFuncAttributes* attributes) {
  return cudaFuncGetAttributes(attributes, Count);
}
