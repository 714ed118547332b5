#include "kernels/cuda/attention/attention.cuh"

namespace trireme::cuda {

cudaError_t LaunchAttention64(const AttentionLaunch& launch, const AttentionArguments& arguments) {
  return LaunchOfHeadDim<64>(launch, arguments);
}

}  // namespace trireme::cuda
