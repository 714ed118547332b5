// What nvcc's objects call before main() (crt/host_runtime.h) and at a <<<>>> (device_functions.h).
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/strings.h"
#include "tests/gpusim/cudart/fat_binary.h"
#include "tests/gpusim/cudart/launch.h"
#include "tests/gpusim/cudart/runtime.h"

namespace trireme::gpusim {
namespace {

// <<<>>> pushes what is in its brackets; the kernel's host function pops it.
thread_local std::vector<LaunchShape> pushed;

}  // namespace
}  // namespace trireme::gpusim

using trireme::gpusim::FatBinary;
using trireme::gpusim::Launch;
using trireme::gpusim::LaunchShape;
using trireme::gpusim::Record;
using trireme::gpusim::RegisteredKernel;
using trireme::gpusim::Runtime;

extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
  auto texts = trireme::gpusim::PtxTextsOf(wrapper);
  if (!texts.ok()) {
    // Before main(): there is nobody to hand an error to.
    std::fprintf(stderr, "gpusim: %s\n", std::string(texts.status().message()).c_str());
    std::exit(2);
  }
  return reinterpret_cast<void**>(new FatBinary{*std::move(texts), {}});
}

void __cudaRegisterFatBinaryEnd(void**) {}

void __cudaUnregisterFatBinary(void** handle) {
  Runtime& runtime = Runtime::Get();
  auto* const binary = reinterpret_cast<FatBinary*>(handle);
  std::lock_guard lock(runtime.mu);
  std::erase_if(runtime.kernels, [&](const auto& entry) { return entry.second.binary == binary; });
  std::erase_if(runtime.variables,
                [&](const auto& entry) { return entry.second.binary == binary; });
  delete binary;
}

void __cudaRegisterFunction(void** handle, const char* host_function, char*, const char* name, int,
                            uint3*, uint3*, dim3*, dim3*, int*) {
  Runtime& runtime = Runtime::Get();
  std::lock_guard lock(runtime.mu);
  runtime.kernels[host_function] = {reinterpret_cast<FatBinary*>(handle), name, {}};
}

void __cudaRegisterVar(void** handle, char* host_variable, char*, const char* name, int, size_t,
                       int, int) {
  Runtime& runtime = Runtime::Get();
  std::lock_guard lock(runtime.mu);
  runtime.variables[host_variable] = {reinterpret_cast<FatBinary*>(handle), name};
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes,
                                     CUstream_st* stream) {
  trireme::gpusim::pushed.push_back(
      {.grid = grid, .block = block, .shared_bytes = shared_bytes, .stream = stream});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared_bytes,
                                       void* stream) {
  auto& pushed = trireme::gpusim::pushed;
  if (pushed.empty()) return Record(cudaErrorMissingConfiguration);
  const LaunchShape shape = pushed.back();
  pushed.pop_back();
  *grid = shape.grid;
  *block = shape.block;
  *shared_bytes = shape.shared_bytes;
  *static_cast<cudaStream_t*>(stream) = shape.stream;
  return cudaSuccess;
}

// A kernel's handle is the address of its host function.
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host_function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(host_function));
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** args,
                               size_t shared_bytes, cudaStream_t stream) {
  return Record(
      Launch(kernel, {.grid = grid, .block = block, .shared_bytes = shared_bytes, .stream = stream},
             args));
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** args,
                             size_t shared_bytes, cudaStream_t stream) {
  return Record(
      Launch(function,
             {.grid = grid, .block = block, .shared_bytes = shared_bytes, .stream = stream}, args));
}

cudaError_t cudaLaunchCooperativeKernel(const void* function, dim3 grid, dim3 block, void** args,
                                        size_t shared_bytes, cudaStream_t stream) {
  return Record(Launch(function,
                       {.grid = grid,
                        .block = block,
                        .shared_bytes = shared_bytes,
                        .stream = stream,
                        .cooperative = true},
                       args));
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                void** args) {
  LaunchShape shape{.grid = config->gridDim,
                    .block = config->blockDim,
                    .shared_bytes = config->dynamicSmemBytes,
                    .stream = config->stream};
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    const cudaLaunchAttribute& attribute = config->attrs[i];
    switch (attribute.id) {
      case cudaLaunchAttributeClusterDimension:
        shape.cluster = {attribute.val.clusterDim.x, attribute.val.clusterDim.y,
                         attribute.val.clusterDim.z};
        break;
      case cudaLaunchAttributeCooperative:
        shape.cooperative = attribute.val.cooperative != 0;
        break;
      // These change when something runs, not what: streams run one after the other here.
      case cudaLaunchAttributeIgnore:
      case cudaLaunchAttributeProgrammaticStreamSerialization:
      case cudaLaunchAttributePriority:
      case cudaLaunchAttributeAccessPolicyWindow:
      case cudaLaunchAttributeClusterSchedulingPolicyPreference:
      case cudaLaunchAttributePreferredSharedMemoryCarveout:
        break;
      default:
        return Record(trireme::gpusim::Explain(
            cudaErrorNotSupported,
            trireme::StrCat("launch attribute ", static_cast<int>(attribute.id),
                            " is not simulated")));
    }
  }
  return Record(Launch(function, shape, args));
}

}  // extern "C"
