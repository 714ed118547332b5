#include "kernels/cuda/attention/attention.cuh"

namespace trireme::cuda {

cudaError_t LaunchAttention128(const AttentionLaunch& launch, const AttentionArguments& arguments) {
  return LaunchOfHeadDim<128>(launch, arguments);
}

}  // namespace trireme::cuda
