// For builds with CUDA and without cuBLASLt.
#include "runtime/backend/cuda_backend.h"
#include "runtime/backend/cuda_cublaslt.h"

namespace trireme {

bool HasCublasLt() { return false; }

absl::StatusOr<std::unique_ptr<CublasLt>> MakeCublasLt() {
  return absl::UnimplementedError("this build has no cuBLASLt");
}

}  // namespace trireme
