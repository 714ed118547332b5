#include "kernels/cuda/attention/attention.cuh"

namespace trireme::cuda {

cudaError_t LaunchAttention256(const AttentionLaunch& launch, const AttentionArguments& arguments) {
  return LaunchOfHeadDim<256>(launch, arguments);
}

}  // namespace trireme::cuda
