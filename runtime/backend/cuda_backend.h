// The CUDA backend: one device, driven by one thread. In builds without CUDA (CMake's TRIREME_CUDA)
// cuda_absent.cc stands in for it: there is no device, and making the backend says so.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/backend/backend.h"

namespace trireme {

class CudaCommunicator;  // what ranks exchange between devices (cuda_communicator.h)

// What multiplies plain weights (bf16, f16).
enum class Gemm : uint8_t {
  kOwn,       // kernels/cuda/gemm
  kCublasLt,  // cuBLASLt, where it pays (cuda_cublaslt.h): not batch invariant
};

struct CudaBackendOptions {
  int device = 0;
  int num_threads = 1;                             // host threads: packing of weights, sampling
  std::shared_ptr<CudaCommunicator> communicator;  // of this device; null: the model has one rank
  DType dtype = DType::kBF16;  // or kF16: of activations, plain weights and KV cache
  Gemm gemm = Gemm::kOwn;
};

// What the ranks of a model find each other by: opaque bytes, made by one of them. UNIMPLEMENTED in
// a build without CUDA, as the next.
absl::StatusOr<std::string> NewRankGroup();
// Joins ranks [first_rank, first_rank + num_devices), which have this process's devices from 0 on.
// Waits until all of the `num_ranks` have joined, in whatever process. INVALID_ARGUMENT: `group` is
// none.
absl::StatusOr<std::vector<std::shared_ptr<CudaCommunicator>>> JoinRanks(const std::string& group,
                                                                         int num_ranks,
                                                                         int first_rank,
                                                                         int num_devices);

// Devices that the driver shows, at least one. UNIMPLEMENTED in a build without CUDA,
// FAILED_PRECONDITION without a device or driver.
absl::StatusOr<int> CountCudaDevices();
// Whether the build has Gemm::kCublasLt.
bool HasCublasLt();

// As CountCudaDevices; UNIMPLEMENTED without the wanted GEMM, too, FAILED_PRECONDITION on a device
// older than sm_80.
absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options);

}  // namespace trireme
