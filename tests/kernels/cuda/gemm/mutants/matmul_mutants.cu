#include "tests/kernels/cuda/gemm/mutants/matmul_mutants.h"

#include "kernels/cuda/gemm/matmul.cuh"

namespace trireme::cuda {

#define TRIREME_MUTANT(name, format)                                                         \
  case MatMulMutant::k##name:                                                                \
    return LaunchMatMul<                                                                     \
        MatMulShape<MatrixFormat::format, DType::kBF16, 1, 2, 1, 4, MatMulMutant::k##name>>( \
        args, 2, nullptr)

cudaError_t LaunchMatMulMutant(const MatMulArgs& args, MatMulMutant mutant) {
  switch (mutant) {
    TRIREME_MUTANT(NoBarrier, kPlain);
    TRIREME_MUTANT(NoBarrierBeforeOutput, kPlain);
    TRIREME_MUTANT(NoBarrierBeforeStore, kPlain);
    TRIREME_MUTANT(LaxWait, kPlain);
    TRIREME_MUTANT(NoCommit, kPlain);
    TRIREME_MUTANT(WrongStageStride, kPlain);
    TRIREME_MUTANT(NoSwizzle, kPlain);
    TRIREME_MUTANT(NoZeroFill, kPlain);
    TRIREME_MUTANT(NoColumnTail, kPlain);
    TRIREME_MUTANT(NoTokenBound, kPlain);
    TRIREME_MUTANT(NoRowTileBound, kPlain);
    TRIREME_MUTANT(HalfSum, kQ4_1);
    TRIREME_MUTANT(FirstScale, kQ4_1);
    case MatMulMutant::kNone:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace trireme::cuda
