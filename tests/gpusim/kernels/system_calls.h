// A kernel that calls what every program may: assert, printf, barriers that count.
#pragma once

#include <cuda_runtime.h>

inline constexpr int kMostValues = 64;

// counts[0]: how many of the n values are positive; [1]: whether all are; [2]: whether one is. At
// most kMostValues, or the kernel's assertion fails.
cudaError_t LaunchCount(const int* values, int n, int* counts);
cudaError_t CountAttributes(cudaFuncAttributes* attributes);
