#include "kernels/cuda/attention/hopper_consumer.cuh"

namespace trireme::cuda {

// As tests/gpusim/gates/kernels.json has it.
static_assert(sizeof(HopperAttentionShared<HopperAttention<DType::kBF16, 64, false>>) == 82944);

cudaError_t LaunchHopperAttention64(const AttentionLaunch& launch,
                                    const AttentionArguments& arguments) {
  return LaunchHopperOfHeadDim<64>(launch, arguments);
}

}  // namespace trireme::cuda
