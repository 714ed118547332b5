// The few functions and structures of NVML and the CUDA driver that are called, declared here as
// their headers (nvml.h, cuda.h) have them: the libraries' binary interface is stable, and nothing
// of NVIDIA's is needed to build.
#include "server/doctor/nvidia.h"

#include <dlfcn.h>

#include <memory>

#include "runtime/base/strings.h"

namespace trireme::doctor {
namespace {

constexpr int kSuccess = 0;
constexpr unsigned kMaxGpus = 64, kMaxLinks = 18;  // NVML_NVLINK_MAX_LINKS

using Device = struct NvmlDevice*;
struct Memory {
  unsigned long long total, free, used;
};

using Library = std::unique_ptr<void, int (*)(void*)>;

Library Load(const std::string& name) {
  return {dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL), dlclose};
}

template <typename Function>
Function* Find(const Library& library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library.get(), name));
}

Gpu AskGpu(const Library& library, Device device) {
  Gpu gpu;
  char name[96] = {};
  if (auto* ask = Find<int(Device, char*, unsigned)>(library, "nvmlDeviceGetName");
      ask != nullptr && ask(device, name, sizeof name - 1) == kSuccess) {
    gpu.name = Printable(name, sizeof name);
  }
  Memory memory = {};
  if (auto* ask = Find<int(Device, Memory*)>(library, "nvmlDeviceGetMemoryInfo");
      ask != nullptr && ask(device, &memory) == kSuccess) {
    gpu.memory_bytes = static_cast<int64_t>(memory.total);
    gpu.free_bytes = static_cast<int64_t>(memory.free);
  }
  if (auto* ask = Find<int(Device, int*, int*)>(library, "nvmlDeviceGetCudaComputeCapability"))
    ask(device, &gpu.compute_major, &gpu.compute_minor);
  if (auto* ask = Find<int(Device, unsigned, unsigned*)>(library, "nvmlDeviceGetNvLinkState")) {
    for (unsigned link = 0; link < kMaxLinks; ++link) {
      unsigned active = 0;
      if (ask(device, link, &active) == kSuccess && active == 1) ++gpu.nvlinks;
    }
  }
  return gpu;
}

}  // namespace

absl::StatusOr<NvmlFacts> AskNvml(const std::string& name) {
  const Library library = Load(name);
  if (library == nullptr) return absl::NotFoundError(StrCat(name, " is not there"));
  auto* init = Find<int()>(library, "nvmlInit_v2");
  auto* shut_down = Find<int()>(library, "nvmlShutdown");
  auto* count = Find<int(unsigned*)>(library, "nvmlDeviceGetCount_v2");
  auto* handle = Find<int(unsigned, Device*)>(library, "nvmlDeviceGetHandleByIndex_v2");
  if (init == nullptr || shut_down == nullptr || count == nullptr || handle == nullptr)
    return absl::FailedPreconditionError(StrCat(name, " lacks functions of NVML"));
  if (const int code = init(); code != kSuccess) {
    auto* words = Find<const char*(int)>(library, "nvmlErrorString");
    return absl::FailedPreconditionError(
        StrCat("NVML: ", words == nullptr ? StrCat("error ", code) : std::string(words(code))));
  }
  NvmlFacts facts;
  char version[96] = {};
  if (auto* ask = Find<int(char*, unsigned)>(library, "nvmlSystemGetDriverVersion");
      ask != nullptr && ask(version, sizeof version - 1) == kSuccess) {
    facts.driver_version = Printable(version);
  }
  if (auto* ask = Find<int(int*)>(library, "nvmlSystemGetCudaDriverVersion_v2"))
    ask(&facts.cuda_version);
  unsigned gpus = 0;
  count(&gpus);
  for (unsigned i = 0; i < gpus && i < kMaxGpus; ++i) {
    Device device = nullptr;
    if (handle(i, &device) == kSuccess) facts.gpus.push_back(AskGpu(library, device));
  }
  shut_down();
  return facts;
}

std::optional<int> AskCudaVersion(const std::string& name) {
  const Library library = Load(name);
  if (library == nullptr) return std::nullopt;
  auto* ask = Find<int(int*)>(library, "cuDriverGetVersion");
  int version = 0;
  if (ask == nullptr || ask(&version) != kSuccess) return std::nullopt;
  return version;
}

}  // namespace trireme::doctor
