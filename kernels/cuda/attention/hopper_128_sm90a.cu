#include "kernels/cuda/attention/hopper_consumer.cuh"

namespace trireme::cuda {

cudaError_t LaunchHopperAttention128(const AttentionLaunch& launch,
                                     const AttentionArguments& arguments) {
  return LaunchHopperOfHeadDim<128>(launch, arguments);
}

}  // namespace trireme::cuda
