#include "kernels/cuda/attention/hopper_consumer.cuh"

namespace trireme::cuda {

cudaError_t LaunchHopperAttention256(const AttentionLaunch& launch,
                                     const AttentionArguments& arguments) {
  return LaunchHopperOfHeadDim<256>(launch, arguments);
}

}  // namespace trireme::cuda
