// The smallest kernel: sum = a + b + a constant of the module (0.5 until SetBias).
#pragma once

#include <cuda_runtime.h>

enum class AddMutant { kNone, kNoBound, kCtasCollide, kTooManyThreads };

// [n] each, on the device.
cudaError_t LaunchVectorAdd(const float* a, const float* b, float* sum, int n, AddMutant mutant,
                            cudaStream_t stream);
cudaError_t SetBias(float value);
