// Takes the place of hopper_64_sm90a.cu.
#include "kernels/cuda/attention/hopper_consumer.cuh"

namespace trireme::cuda {

extern AttentionMutant current_mutant;  // attention_mutants.cu

namespace {

template <AttentionMutant kIt>
struct Mutated : HopperAttention<DType::kBF16, 64, false> {
  static constexpr AttentionMutant kMutant = kIt;
};

template <AttentionMutant kIt>
cudaError_t Launch(AttentionLaunch launch, const AttentionArguments& arguments) {
  launch.max_items = 1;  // one CTA walks through all items
  return LaunchHopperKernel<Mutated<kIt>>(launch, arguments);
}

}  // namespace

#define TRIREME_MUTANT(name)     \
  case AttentionMutant::k##name: \
    return Launch<AttentionMutant::k##name>(launch, arguments)

cudaError_t LaunchHopperAttention64(const AttentionLaunch& launch,
                                    const AttentionArguments& arguments) {
  switch (current_mutant) {
    TRIREME_MUTANT(None);
    TRIREME_MUTANT(NoWaitForSlot);
    TRIREME_MUTANT(WrongParity);
    TRIREME_MUTANT(NoWaitForValues);
    TRIREME_MUTANT(PublishesEarly);
    TRIREME_MUTANT(NoProxyFence);
    TRIREME_MUTANT(NoQueryBarrier);
    TRIREME_MUTANT(NoWgmmaFence);
    TRIREME_MUTANT(NoWaitForScores);
    TRIREME_MUTANT(ReleasesValuesEarly);
    TRIREME_MUTANT(NoBarrierBetweenItems);
    TRIREME_MUTANT(NoWarpBarrier);
    TRIREME_MUTANT(NoSwizzle);
    TRIREME_MUTANT(NoZeroFill);
    TRIREME_MUTANT(MaskOffByOne);
    TRIREME_MUTANT(WindowOffByOne);
    TRIREME_MUTANT(NoMaskOnWindow);
    TRIREME_MUTANT(NoRescale);
    TRIREME_MUTANT(NoBaseGuard);
    TRIREME_MUTANT(ForgetsChunks);
    TRIREME_MUTANT(SinkTwice);
    TRIREME_MUTANT(NoRowBound);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace trireme::cuda
