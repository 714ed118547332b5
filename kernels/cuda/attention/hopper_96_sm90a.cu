#include "kernels/cuda/attention/hopper_consumer.cuh"

namespace trireme::cuda {

cudaError_t LaunchHopperAttention96(const AttentionLaunch& launch,
                                    const AttentionArguments& arguments) {
  return LaunchHopperOfHeadDim<96>(launch, arguments);
}

}  // namespace trireme::cuda
