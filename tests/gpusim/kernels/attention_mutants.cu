#include "tests/gpusim/kernels/attention.cuh"

#define TRIREME_MUTANT(name)     \
  case AttentionMutant::k##name: \
    return LaunchAttentionKernel<AttentionMutant::k##name>(params, batch, stream)

cudaError_t LaunchAttentionMutant(const AttentionParams& params, int batch, AttentionMutant mutant,
                                  cudaStream_t stream) {
  switch (mutant) {
    TRIREME_MUTANT(NoBarrierAfterWait);
    TRIREME_MUTANT(NoBarrierBeforeLoad);
    TRIREME_MUTANT(LaxWait);
    TRIREME_MUTANT(NoCommit);
    TRIREME_MUTANT(NoSwizzle);
    TRIREME_MUTANT(WrongStageStride);
    TRIREME_MUTANT(WarpSkipsBarrier);
    TRIREME_MUTANT(MaskOffByOne);
    TRIREME_MUTANT(NoZeroFill);
    TRIREME_MUTANT(NoRowBound);
    TRIREME_MUTANT(PageOutOfBounds);
    TRIREME_MUTANT(UninitialisedAccumulator);
    TRIREME_MUTANT(MisalignedCopy);
    TRIREME_MUTANT(NoWarpBarrier);
    TRIREME_MUTANT(ShuffleMask);
    TRIREME_MUTANT(NoRescale);
    TRIREME_MUTANT(HalfReduction);
    TRIREME_MUTANT(SwappedFragments);
    TRIREME_MUTANT(TooLittleShared);
    TRIREME_MUTANT(NoCausalTile);
    case AttentionMutant::kNone:
      break;
  }
  return cudaErrorInvalidValue;
}
