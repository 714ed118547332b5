// CUDA's errors as statuses, and memory that frees itself. Any thread that has made the device
// current.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "runtime/backend/backend.h"

namespace trireme {

// OK, or an error that names `what` and CUDA's own words. Out of memory is RESOURCE_EXHAUSTED,
// everything else INTERNAL.
absl::Status CudaStatus(cudaError_t error, std::string_view what);

// A device without memory left says how much was wanted and how much there is.
absl::StatusOr<std::unique_ptr<Buffer>> AllocateDevice(size_t bytes);
// Page-locked memory of the host, which the device reads and writes, too.
absl::StatusOr<std::unique_ptr<Buffer>> AllocatePinned(size_t bytes);

}  // namespace trireme
