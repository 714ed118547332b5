#include "tests/gpusim/kernels/vector_add.h"

namespace {

constexpr int kThreads = 128;

__constant__ float bias = 0.5f;

__global__ void __launch_bounds__(kThreads)
    Add(const float* a, const float* b, float* sum, int n, bool guarded) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n || !guarded) sum[i] = a[i] + b[i] + bias;
}

// Every CTA writes the first elements: a race between CTAs.
__global__ void __launch_bounds__(kThreads)
    AddAllAtZero(const float* a, const float* b, float* sum) {
  sum[threadIdx.x] = a[threadIdx.x] + b[threadIdx.x];
}

}  // namespace

cudaError_t LaunchVectorAdd(const float* a, const float* b, float* sum, int n, AddMutant mutant,
                            cudaStream_t stream) {
  const int ctas = (n + kThreads - 1) / kThreads;
  switch (mutant) {
    case AddMutant::kNone:
      Add<<<ctas, kThreads, 0, stream>>>(a, b, sum, n, true);
      break;
    case AddMutant::kNoBound:
      Add<<<ctas, kThreads, 0, stream>>>(a, b, sum, n, false);
      break;
    case AddMutant::kCtasCollide:
      AddAllAtZero<<<2, kThreads, 0, stream>>>(a, b, sum);
      break;
    case AddMutant::kTooManyThreads:
      Add<<<1, 2048, 0, stream>>>(a, b, sum, n, true);
      break;
  }
  return cudaGetLastError();
}

cudaError_t SetBias(float value) { return cudaMemcpyToSymbol(bias, &value, sizeof(value)); }
