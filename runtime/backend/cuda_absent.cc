// In place of the CUDA backend where it is not built.
#include "runtime/backend/cuda_backend.h"

namespace trireme {

namespace {

absl::Status NotBuilt() {
  return absl::UnimplementedError(
      "this build has no CUDA backend; build with `cmake --preset cuda`, or leave --device cuda "
      "out");
}

}  // namespace

absl::StatusOr<int> CountCudaDevices() { return NotBuilt(); }
bool HasCublasLt() { return false; }
absl::StatusOr<std::string> NewRankGroup() { return NotBuilt(); }
absl::StatusOr<std::vector<std::shared_ptr<CudaCommunicator>>> JoinRanks(const std::string&, int,
                                                                         int, int) {
  return NotBuilt();
}
absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions&) {
  return NotBuilt();
}

}  // namespace trireme
