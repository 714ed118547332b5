// In place of the CUDA backend where it is not built.
#include "runtime/backend/cuda_backend.h"

namespace trireme {

bool HasCudaDevice() { return false; }

absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions&) {
  return absl::UnimplementedError(
      "this build has no CUDA backend; build with `cmake --preset cuda`, or leave --device cuda "
      "out");
}

}  // namespace trireme
