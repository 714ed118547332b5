// Takes the place of all_reduce.cu.
#include "kernels/cuda/comm/all_reduce.cuh"

namespace trireme::cuda {

AllReduceMutant current_mutant = AllReduceMutant::kNone;

#define TRIREME_MUTANT(name)                                           \
  case AllReduceMutant::k##name:                                       \
    return LaunchAllReduce<DType::kBF16, 2, AllReduceMutant::k##name>( \
        peers, one_shot, 32, x, gain, eps, rows, cols, y, stream)

cudaError_t AllReduceAddRmsNorm(DType, const Peers& peers, bool one_shot, float* x,
                                const float* gain, float eps, int64_t rows, int64_t cols, void* y,
                                cudaStream_t stream) {
  switch (current_mutant) {
    TRIREME_MUTANT(None);
    TRIREME_MUTANT(NoFirstMeeting);
    TRIREME_MUTANT(NoSecondMeeting);
    TRIREME_MUTANT(ForgetsEpoch);
    TRIREME_MUTANT(OwnFirst);
    TRIREME_MUTANT(RoundsTwice);
  }
  return cudaErrorInvalidValue;
}

}  // namespace trireme::cuda
