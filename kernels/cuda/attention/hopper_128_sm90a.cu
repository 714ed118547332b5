#include "kernels/cuda/attention/hopper_consumer.cuh"

namespace trireme::cuda {

// As tests/gpusim/gates/kernels.json has it.
static_assert(sizeof(HopperAttentionShared<HopperAttention<DType::kBF16, 128, false>>) == 164864);

cudaError_t LaunchHopperAttention128(const AttentionLaunch& launch,
                                     const AttentionArguments& arguments) {
  return LaunchHopperOfHeadDim<128>(launch, arguments);
}

}  // namespace trireme::cuda
