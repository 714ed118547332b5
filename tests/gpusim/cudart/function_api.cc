// Kernels as objects: their limits and how many CTAs fit.
#include <algorithm>

#include "runtime/base/strings.h"
#include "tests/gpusim/cudart/launch.h"
#include "tests/gpusim/cudart/runtime.h"

using trireme::gpusim::Architecture;
using trireme::gpusim::Explain;
using trireme::gpusim::Program;
using trireme::gpusim::Record;
using trireme::gpusim::Runtime;

namespace trireme::gpusim {
namespace {

// The program of a registered kernel on the current device. Runtime::mu is held.
cudaError_t Find(const void* function, RegisteredKernel** kernel, const Program** program) {
  Runtime& runtime = Runtime::Get();
  const auto known = runtime.kernels.find(function);
  if (known == runtime.kernels.end()) return cudaErrorInvalidDeviceFunction;
  *kernel = &known->second;
  absl::StatusOr<LoadedModule*> module = runtime.Load(known->second.binary);
  if (!module.ok()) {
    return Explain(cudaErrorNoKernelImageForDevice, FromAbsl(module.status().message()));
  }
  absl::StatusOr<const Program*> decoded = (*module)->Kernel(known->second.name);
  if (!decoded.ok()) return Explain(cudaErrorInvalidPtx, FromAbsl(decoded.status().message()));
  *program = *decoded;
  return cudaSuccess;
}

}  // namespace
}  // namespace trireme::gpusim

extern "C" {

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  Runtime& runtime = Runtime::Get();
  std::lock_guard lock(runtime.mu);
  trireme::gpusim::RegisteredKernel* kernel = nullptr;
  const Program* program = nullptr;
  if (const cudaError_t error = trireme::gpusim::Find(function, &kernel, &program);
      error != cudaSuccess) {
    return Record(error);
  }
  switch (attribute) {
    case cudaFuncAttributeMaxDynamicSharedMemorySize: {
      const int most = runtime.device().architecture->shared_bytes_optin -
                       static_cast<int>(program->static_shared_bytes);
      if (value < 0 || value > most) {
        return Record(Explain(cudaErrorInvalidValue,
                              trireme::StrCat(program->name, " asks for ", value,
                                              " bytes of dynamic shared memory, at most ", most)));
      }
      kernel->max_dynamic_shared_bytes[runtime.device().index] = value;
      return Record(cudaSuccess);
    }
    case cudaFuncAttributePreferredSharedMemoryCarveout:  // a hint
      return Record(value >= -1 && value <= 100 ? cudaSuccess : cudaErrorInvalidValue);
    default:
      return Record(Explain(cudaErrorNotSupported, "this function attribute is not simulated"));
  }
}

// What ptxas decides is not known: registers are the most that it may give, and nothing spills.
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  Runtime& runtime = Runtime::Get();
  std::lock_guard lock(runtime.mu);
  trireme::gpusim::RegisteredKernel* kernel = nullptr;
  const Program* program = nullptr;
  const cudaError_t error = trireme::gpusim::Find(function, &kernel, &program);
  if (error != cudaSuccess) return Record(error);
  const Architecture& architecture = *runtime.device().architecture;
  const auto limit = kernel->max_dynamic_shared_bytes.find(runtime.device().index);
  *attributes = {};
  attributes->sharedSizeBytes = program->static_shared_bytes;
  attributes->localSizeBytes = program->local_bytes;
  attributes->maxThreadsPerBlock = program->max_threads;
  attributes->numRegs = std::min(255, Architecture::kRegistersPerSm / program->max_threads / 8 * 8);
  attributes->ptxVersion = attributes->binaryVersion = architecture.major * 10 + architecture.minor;
  attributes->maxDynamicSharedSizeBytes =
      limit != kernel->max_dynamic_shared_bytes.end()
          ? limit->second
          : Architecture::kSharedBytesDefault - static_cast<int>(program->static_shared_bytes);
  attributes->preferredShmemCarveout = -1;
  attributes->requiredClusterWidth = program->cluster[0];
  attributes->requiredClusterHeight = program->cluster[1];
  attributes->requiredClusterDepth = program->cluster[2];
  return Record(cudaSuccess);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* ctas, const void* function,
                                                          int threads, size_t shared_bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(ctas, function, threads,
                                                                shared_bytes, 0);
}

// An upper bound: registers are not counted.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* ctas, const void* function,
                                                                   int threads, size_t shared_bytes,
                                                                   unsigned) {
  Runtime& runtime = Runtime::Get();
  std::lock_guard lock(runtime.mu);
  trireme::gpusim::RegisteredKernel* kernel = nullptr;
  const Program* program = nullptr;
  const cudaError_t error = trireme::gpusim::Find(function, &kernel, &program);
  if (error != cudaSuccess) return Record(error);
  if (threads <= 0) return Record(cudaErrorInvalidValue);
  *ctas = threads > program->max_threads
              ? 0
              : trireme::gpusim::CtasPerSm(*runtime.device().architecture, threads,
                                           shared_bytes + program->static_shared_bytes);
  return Record(cudaSuccess);
}

}  // extern "C"
