#include "kernels/cuda/attention/hopper_consumer.cuh"

namespace trireme::cuda {

cudaError_t LaunchHopperAttention64(const AttentionLaunch& launch,
                                    const AttentionArguments& arguments) {
  return LaunchHopperOfHeadDim<64>(launch, arguments);
}

}  // namespace trireme::cuda
