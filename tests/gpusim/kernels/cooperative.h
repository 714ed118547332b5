// CTAs that wait for each other: cooperative.cu.
#pragma once

#include <cuda_runtime.h>

namespace trireme {

// values: [2][ctas]; after `rounds` (the kernel swaps the halves each time) the half that was
// written last holds the result. A cooperative launch; without `synchronises` it is wrong.
cudaError_t LaunchRounds(int ctas, int* values, int rounds, bool synchronises);
// sum = values[0] + ... + values[ctas - 1]; parts: [ctas]; *arrived is 0. Without `fences` wrong.
cudaError_t LaunchLastAddsUp(int ctas, const int* values, int* parts, unsigned* arrived, int* sum,
                             bool fences);

}  // namespace trireme
