// A kernel that waits for what another kernel, or the host, does while it runs: polling.cu.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace trireme {

// *seen = *flag, once it is not 0; flag: of a device, or page-locked.
cudaError_t LaunchAwaitFlag(uint32_t* flag, bool by_atomics, uint32_t* seen, cudaStream_t stream);
cudaError_t LaunchSetFlag(uint32_t* flag, uint32_t value, cudaStream_t stream);

}  // namespace trireme
