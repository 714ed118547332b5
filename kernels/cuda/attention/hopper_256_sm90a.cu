#include "kernels/cuda/attention/hopper_consumer.cuh"

namespace trireme::cuda {

// As tests/gpusim/gates/kernels.json has it.
static_assert(sizeof(HopperAttentionShared<HopperAttention<DType::kBF16, 256, false>>) == 197632);

cudaError_t LaunchHopperAttention256(const AttentionLaunch& launch,
                                     const AttentionArguments& arguments) {
  return LaunchHopperOfHeadDim<256>(launch, arguments);
}

}  // namespace trireme::cuda
