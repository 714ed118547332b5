#include "tests/gpusim/kernels/attention.cuh"

cudaError_t LaunchAttention(const AttentionParams& params, int batch, cudaStream_t stream) {
  return LaunchAttentionKernel<AttentionMutant::kNone>(params, batch, stream);
}
