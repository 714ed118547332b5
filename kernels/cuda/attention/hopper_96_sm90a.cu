#include "kernels/cuda/attention/hopper_consumer.cuh"

namespace trireme::cuda {

// As tests/gpusim/gates/kernels.json has it.
static_assert(sizeof(HopperAttentionShared<HopperAttention<DType::kBF16, 96, false>>) == 123904);

cudaError_t LaunchHopperAttention96(const AttentionLaunch& launch,
                                    const AttentionArguments& arguments) {
  return LaunchHopperOfHeadDim<96>(launch, arguments);
}

}  // namespace trireme::cuda
