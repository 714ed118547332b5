// The CUDA backend: one device, driven by one thread. In builds without CUDA (CMake's TRIREME_CUDA)
// cuda_absent.cc stands in for it: there is no device, and making the backend says so.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "runtime/backend/backend.h"

namespace trireme {

struct CudaBackendOptions {
  int device = 0;
  int num_threads = 1;  // host threads: packing of weights, sampling
};

// Whether this build has the backend and the driver shows a device.
bool HasCudaDevice();

// UNIMPLEMENTED in a build without CUDA, FAILED_PRECONDITION without a device or driver, or on a
// device older than sm_80.
absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options);

}  // namespace trireme
