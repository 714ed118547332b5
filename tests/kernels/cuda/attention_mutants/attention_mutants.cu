// Takes the place of attention_64.cu.
#include "kernels/cuda/attention/attention.cuh"

namespace trireme::cuda {

AttentionMutant current_mutant = AttentionMutant::kNone;

namespace {

template <int kWarps, AttentionMutant kIt>
struct Mutated : AttentionKernel<DType::kBF16, 64, kWarps, false> {
  static constexpr AttentionMutant kMutant = kIt;
};

template <AttentionMutant kIt>
cudaError_t Launch(AttentionLaunch launch, const AttentionArguments& arguments) {
  launch.max_items = 1;  // one CTA walks through all items
  return launch.decode ? LaunchKernel<Mutated<1, kIt>>(launch, arguments)
                       : LaunchKernel<Mutated<4, kIt>>(launch, arguments);
}

}  // namespace

#define TRIREME_MUTANT(name)     \
  case AttentionMutant::k##name: \
    return Launch<AttentionMutant::k##name>(launch, arguments)

cudaError_t LaunchAttention64(const AttentionLaunch& launch, const AttentionArguments& arguments) {
  switch (current_mutant) {
    TRIREME_MUTANT(None);
    TRIREME_MUTANT(NoBarrierForKeys);
    TRIREME_MUTANT(NoBarrierForValues);
    TRIREME_MUTANT(LaxWaitForKeys);
    TRIREME_MUTANT(LaxWaitForValues);
    TRIREME_MUTANT(NoCommitOfValues);
    TRIREME_MUTANT(WrongStageStride);
    TRIREME_MUTANT(NoBarrierBetweenItems);
    TRIREME_MUTANT(NoWarpBarrier);
    TRIREME_MUTANT(NoSwizzle);
    TRIREME_MUTANT(NoZeroFill);
    TRIREME_MUTANT(StaleLookUp);
    TRIREME_MUTANT(MaskOffByOne);
    TRIREME_MUTANT(WindowOffByOne);
    TRIREME_MUTANT(NoMaskOnWindow);
    TRIREME_MUTANT(SeesTooLittle);
    TRIREME_MUTANT(NoRescale);
    TRIREME_MUTANT(NoBaseGuard);
    TRIREME_MUTANT(HalfSum);
    TRIREME_MUTANT(ForgetsChunks);
    TRIREME_MUTANT(KeepsMax);
    TRIREME_MUTANT(SinkTwice);
    TRIREME_MUTANT(NoRowBound);
    TRIREME_MUTANT(PartialWithoutMax);
  }
  return cudaErrorInvalidValue;
}

}  // namespace trireme::cuda
