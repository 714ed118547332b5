#include "kernels/cuda/gemm/hopper_matmul.cuh"
#include "tests/kernels/cuda/gemm/mutants/matmul_mutants.h"

namespace trireme::cuda {

#define TRIREME_MUTANT(name)  \
  case HopperMutant::k##name: \
    return LaunchHopperShape<HopperShape<DType::kBF16, 128, HopperMutant::k##name>>(args, nullptr)

cudaError_t LaunchHopperMutant(const HopperArgs& args, HopperMutant mutant) {
  switch (mutant) {
    TRIREME_MUTANT(None);
    TRIREME_MUTANT(NoWaitForEmpty);
    TRIREME_MUTANT(GivesBackEarly);
    TRIREME_MUTANT(NoWgmmaFence);
    TRIREME_MUTANT(NoLastWait);
    TRIREME_MUTANT(NoBarrierBeforeOutput);
    TRIREME_MUTANT(NoBarrierBeforeStore);
  }
  return cudaErrorInvalidValue;
}

}  // namespace trireme::cuda
