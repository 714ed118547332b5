#include "tests/gpusim/kernels/stream_order.h"

namespace trireme {
namespace {

constexpr int kThreads = 128;

template <typename T>
__global__ void Fill(T* data, int n, T value) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) data[i] = value;
}

__global__ void CopyWords(const uint32_t* from, uint32_t* to, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) to[i] = from[i];
}

__global__ void Publish(uint32_t* data, int n, uint32_t value, uint32_t* flag) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) data[i] = value;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence_system();
    atomicExch_system(flag, 1u);
  }
}

__global__ void AwaitAndCopy(const volatile uint32_t* flag, const uint32_t* from, uint32_t* to,
                             int n) {
  if (threadIdx.x == 0) {
    while (*flag == 0) {
    }
    __threadfence_system();
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) to[i] = from[i];
}

int Ctas(int n) { return (n + kThreads - 1) / kThreads; }

}  // namespace

cudaError_t LaunchFill(uint32_t* data, int n, uint32_t value, cudaStream_t stream) {
  Fill<<<Ctas(n), kThreads, 0, stream>>>(data, n, value);
  return cudaGetLastError();
}

cudaError_t LaunchFillBytes(uint8_t* data, int n, uint8_t value, cudaStream_t stream) {
  Fill<<<Ctas(n), kThreads, 0, stream>>>(data, n, value);
  return cudaGetLastError();
}

cudaError_t LaunchCopyWords(const uint32_t* from, uint32_t* to, int n, cudaStream_t stream) {
  CopyWords<<<Ctas(n), kThreads, 0, stream>>>(from, to, n);
  return cudaGetLastError();
}

cudaError_t LaunchPublish(uint32_t* data, int n, uint32_t value, uint32_t* flag,
                          cudaStream_t stream) {
  Publish<<<1, kThreads, 0, stream>>>(data, n, value, flag);
  return cudaGetLastError();
}

cudaError_t LaunchAwaitAndCopy(const uint32_t* flag, const uint32_t* from, uint32_t* to, int n,
                               cudaStream_t stream) {
  AwaitAndCopy<<<1, kThreads, 0, stream>>>(flag, from, to, n);
  return cudaGetLastError();
}

}  // namespace trireme
