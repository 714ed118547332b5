// Kernels whose order is the host's affair, and two that order themselves by a flag.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace trireme {

// data[0, n) on any device whose memory the current one reaches.
cudaError_t LaunchFill(uint32_t* data, int n, uint32_t value, cudaStream_t stream);
cudaError_t LaunchFillBytes(uint8_t* data, int n, uint8_t value, cudaStream_t stream);
cudaError_t LaunchCopyWords(const uint32_t* from, uint32_t* to, int n, cudaStream_t stream);
// Fills data, then sets *flag.
cudaError_t LaunchPublish(uint32_t* data, int n, uint32_t value, uint32_t* flag,
                          cudaStream_t stream);
// Waits for *flag, then copies data.
cudaError_t LaunchAwaitAndCopy(const uint32_t* flag, const uint32_t* from, uint32_t* to, int n,
                               cudaStream_t stream);

}  // namespace trireme
