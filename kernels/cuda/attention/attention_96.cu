#include "kernels/cuda/attention/attention.cuh"

namespace trireme::cuda {

cudaError_t LaunchAttention96(const AttentionLaunch& launch, const AttentionArguments& arguments) {
  return LaunchOfHeadDim<96>(launch, arguments);
}

}  // namespace trireme::cuda
