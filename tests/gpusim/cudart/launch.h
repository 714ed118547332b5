// A kernel's launch: checked against the device's limits, then put into its stream.
#pragma once

#include <cuda_runtime_api.h>

namespace trireme::gpusim {

struct LaunchShape {
  dim3 grid, block;
  dim3 cluster = dim3(0, 0, 0);  // 0: the kernel's own, or none
  size_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
  bool cooperative = false;  // every CTA runs from the beginning
};

// `args` are read before this returns.
cudaError_t Launch(const void* host_function, const LaunchShape& shape, void** args);

// CTAs of a kernel that fit one SM. Registers are not counted: ptxas gives them out.
int CtasPerSm(const struct Architecture& architecture, int threads, size_t shared_bytes);

}  // namespace trireme::gpusim
