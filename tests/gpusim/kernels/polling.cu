// A kernel that waits for what another kernel, or the host, does while it runs.
#include "tests/gpusim/kernels/polling.h"

namespace trireme {
namespace {

__global__ void AwaitFlag(const volatile uint32_t* flag, uint32_t* seen) {
  uint32_t value = 0;
  while ((value = *flag) == 0) {
  }
  *seen = value;
}

__global__ void AwaitFlagByAtomics(uint32_t* flag, uint32_t* seen) {
  uint32_t value = 0;
  while ((value = atomicAdd(flag, 0u)) == 0) {
  }
  *seen = value;
}

__global__ void SetFlag(uint32_t* flag, uint32_t value) { atomicExch(flag, value); }

}  // namespace

cudaError_t LaunchAwaitFlag(uint32_t* flag, bool by_atomics, uint32_t* seen, cudaStream_t stream) {
  if (by_atomics) {
    AwaitFlagByAtomics<<<1, 1, 0, stream>>>(flag, seen);
  } else {
    AwaitFlag<<<1, 1, 0, stream>>>(flag, seen);
  }
  return cudaGetLastError();
}

cudaError_t LaunchSetFlag(uint32_t* flag, uint32_t value, cudaStream_t stream) {
  SetFlag<<<1, 1, 0, stream>>>(flag, value);
  return cudaGetLastError();
}

}  // namespace trireme
