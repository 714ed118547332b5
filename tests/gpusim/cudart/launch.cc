#include "tests/gpusim/cudart/launch.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/strings.h"
#include "tests/gpusim/cudart/profile.h"
#include "tests/gpusim/cudart/runtime.h"
#include "tests/gpusim/vm/grid.h"

namespace trireme::gpusim {
namespace {

constexpr uint64_t kWorkspaceBytes = 64;  // of a cooperative launch

uint64_t Volume(const dim3& d) { return uint64_t{d.x} * d.y * d.z; }

std::array<int, 3> ToArray(const dim3& d) {
  return {static_cast<int>(d.x), static_cast<int>(d.y), static_cast<int>(d.z)};
}

cudaError_t Invalid(const Program& program, std::string_view what) {
  return Explain(cudaErrorInvalidValue, StrCat("launch of ", program.name, ": ", what));
}

// CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
cudaError_t CheckShape(const Program& program, const Architecture& architecture,
                       const LaunchShape& shape, const std::array<int, 3>& cluster,
                       int max_dynamic_shared) {
  const dim3 &grid = shape.grid, &block = shape.block;
  if (Volume(grid) == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    return Explain(cudaErrorInvalidConfiguration, StrCat("launch of ", program.name, ": a grid of ",
                                                         grid.x, " x ", grid.y, " x ", grid.z));
  }
  if (Volume(block) == 0 || block.z > 64 || Volume(block) > Architecture::kThreadsPerCta) {
    return Explain(cudaErrorInvalidConfiguration,
                   StrCat("launch of ", program.name, ": a block of ", block.x, " x ", block.y,
                          " x ", block.z));
  }
  if (Volume(block) > static_cast<uint64_t>(program.max_threads)) {
    return Explain(cudaErrorInvalidValue,
                   StrCat("launch of ", program.name, ": ", Volume(block),
                          " threads, its __launch_bounds__ allow ", program.max_threads));
  }
  if (shape.shared_bytes > static_cast<size_t>(max_dynamic_shared)) {
    return Invalid(program, StrCat(shape.shared_bytes, " bytes of dynamic shared memory, at most ",
                                   max_dynamic_shared,
                                   " without cudaFuncSetAttribute(MaxDynamicSharedMemorySize)"));
  }
  if (shape.shared_bytes + program.static_shared_bytes >
      static_cast<size_t>(architecture.shared_bytes_optin)) {
    return Invalid(program, StrCat("more shared memory than the ", architecture.shared_bytes_optin,
                                   " bytes of ", architecture.name));
  }
  const uint64_t in_cluster = uint64_t{1} * static_cast<uint64_t>(cluster[0] * cluster[1]) *
                              static_cast<uint64_t>(cluster[2]);
  if (in_cluster > static_cast<uint64_t>(architecture.max_cluster)) {
    return Explain(cudaErrorInvalidClusterSize,
                   StrCat("launch of ", program.name, ": a cluster of ", in_cluster, ", ",
                          architecture.name, " has at most ", architecture.max_cluster));
  }
  const auto sizes = ToArray(grid);
  for (size_t i = 0; i < 3; ++i) {
    if (sizes[i] % cluster[i] != 0) {
      return Invalid(program, "the grid is no multiple of the cluster");
    }
  }
  return cudaSuccess;
}

cudaError_t StickyErrorOf(FindingKind kind) {
  switch (kind) {
    case FindingKind::kMisaligned:
      return cudaErrorMisalignedAddress;
    case FindingKind::kOutOfBounds:
      return cudaErrorIllegalAddress;
    case FindingKind::kDeadlock:
      return cudaErrorLaunchTimeout;
    default:
      return cudaErrorLaunchFailure;
  }
}

// A launch in its stream. Run() says cudaErrorNotReady while the kernel polls flags: what sets them
// may be the thread that runs it, once that goes on, or a kernel that this thread runs next.
class QueuedLaunch {
 public:
  QueuedLaunch(Device* device, const Program* program, const LaunchConfig& config,
               std::vector<char> params)
      : device_(device), program_(program), config_(config), params_(std::move(params)) {}

  cudaError_t Run() {
    std::lock_guard one_at_a_time(device_->run_mu);
    if (grid_ == nullptr) {
      if (const cudaError_t error = Start(); error != cudaSuccess) return error;
    }
    if (!grid_->RunSlice()) return cudaErrorNotReady;
    const std::shared_ptr<Grid> grid = std::move(grid_);
    Runtime& runtime = Runtime::Get();
    if (runtime.profile) {
      PrintProfile(program_->name, grid->counters(), grid->cpu_seconds(), grid->matrix_share());
    }
    {
      std::lock_guard lock(runtime.mu);
      runtime.last_counters = grid->counters();
    }
    return grid->status().ok() ? cudaSuccess : StickyErrorOf(grid->failure());
  }

 private:
  cudaError_t Start() {
    Runtime& runtime = Runtime::Get();
    if (const auto fault = runtime.faults.Next(FaultPoint::kKernel, device_->index)) {
      device_->lost = fault == FaultKind::kDeviceLoss;
      return device_->lost ? cudaErrorUnknown : cudaErrorLaunchFailure;
    }
    DeviceMemory* const memory = device_->memory.get();
    LaunchConfig config = config_;
    config.operation = StreamOperation::Current()->shared_from_this();
    if (config.all_resident) {
      const absl::StatusOr<uint64_t> workspace = memory->Allocate(kWorkspaceBytes);
      if (!workspace.ok()) return cudaErrorMemoryAllocation;
      config.workspace = *workspace;
      std::memset(memory->Find(*workspace, kWorkspaceBytes), 0, kWorkspaceBytes);
      memory->SetDefined(*workspace, kWorkspaceBytes);
    }
    grid_ = std::shared_ptr<Grid>(new Grid(program_, config, params_, memory, &runtime.report),
                                  [memory, workspace = config.workspace](Grid* grid) {
                                    delete grid;
                                    if (workspace != 0) memory->Free(workspace).IgnoreError();
                                  });
    return cudaSuccess;
  }

  Device* const device_;
  const Program* const program_;
  const LaunchConfig config_;
  const std::vector<char> params_;
  std::shared_ptr<Grid> grid_;  // once it has started
};

}  // namespace

int CtasPerSm(const Architecture& architecture, int threads, size_t shared_bytes) {
  const int warps = (threads + 31) / 32;
  const int by_threads = architecture.threads_per_sm / (warps * 32);
  const int by_shared = architecture.shared_bytes_per_sm /
                        static_cast<int>(shared_bytes + Architecture::kSharedBytesReserved);
  return std::min({architecture.ctas_per_sm, by_threads, by_shared});
}

cudaError_t Launch(const void* host_function, const LaunchShape& shape, void** args) {
  Runtime& runtime = Runtime::Get();
  if (runtime.num_devices() == 0) return cudaErrorNoDevice;
  if (Sticky() != cudaSuccess) return Sticky();
  Device& device = runtime.device();
  const Program* program = nullptr;
  int max_dynamic_shared = 0;
  {
    std::lock_guard lock(runtime.mu);
    const auto known = runtime.kernels.find(host_function);
    if (known == runtime.kernels.end()) return cudaErrorInvalidDeviceFunction;
    absl::StatusOr<LoadedModule*> module = runtime.Load(known->second.binary);
    if (!module.ok()) {
      return Explain(cudaErrorNoKernelImageForDevice, FromAbsl(module.status().message()));
    }
    absl::StatusOr<const Program*> decoded = (*module)->Kernel(known->second.name);
    if (!decoded.ok()) {
      return Explain(cudaErrorInvalidPtx, FromAbsl(decoded.status().message()));
    }
    program = *decoded;
    const auto& limits = known->second.max_dynamic_shared_bytes;
    const auto limit = limits.find(device.index);
    max_dynamic_shared = limit != limits.end() ? limit->second
                                               : Architecture::kSharedBytesDefault -
                                                     static_cast<int>(program->static_shared_bytes);
  }
  LaunchConfig config;
  config.grid = ToArray(shape.grid);
  config.block = ToArray(shape.block);
  config.cluster = Volume(shape.cluster) != 0 ? ToArray(shape.cluster)
                   : program->cluster[0] != 0 ? program->cluster
                                              : std::array<int, 3>{1, 1, 1};
  config.dynamic_shared_bytes = static_cast<uint32_t>(shape.shared_bytes);
  config.seed = runtime.NewSeed();
  config.threads = runtime.threads;
  const cudaError_t checked =
      CheckShape(*program, *device.architecture, shape, config.cluster, max_dynamic_shared);
  if (checked != cudaSuccess) return checked;
  if (shape.cooperative) {
    const uint64_t fits =
        static_cast<uint64_t>(device.architecture->num_sms) *
        static_cast<uint64_t>(CtasPerSm(*device.architecture, static_cast<int>(Volume(shape.block)),
                                        shape.shared_bytes + program->static_shared_bytes));
    if (Volume(shape.grid) > fits) {
      return Explain(cudaErrorCooperativeLaunchTooLarge,
                     StrCat("cooperative launch of ", program->name, ": ", Volume(shape.grid),
                            " CTAs, ", fits, " fit at the same time"));
    }
    config.all_resident = true;
  }
  if (runtime.faults.Next(FaultPoint::kLaunch, device.index).has_value()) {
    return cudaErrorLaunchOutOfResources;
  }
  std::vector<char> params(program->param_bytes);
  for (size_t i = 0; i < program->param_sizes.size(); ++i) {
    std::memcpy(params.data() + program->param_offsets[i], args[i], program->param_sizes[i]);
  }
  return runtime.Submit(
      shape.stream, StrCat("kernel ", program->name),
      [launch = QueuedLaunch(&device, program, config, std::move(params))]() mutable {
        return launch.Run();
      });
}

}  // namespace trireme::gpusim
