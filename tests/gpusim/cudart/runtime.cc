#include "tests/gpusim/cudart/runtime.h"

#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "tests/gpusim/cudart/fat_binary.h"
#include "tests/gpusim/cudart/graph.h"
#include "tests/gpusim/gpusim.h"

namespace trireme::gpusim {
namespace {

constexpr uint64_t kMib = 1024 * 1024;
constexpr uint64_t kHostMib = 1024;  // page-locked, at most
constexpr int kMaxDevices = 16;

// A setting of the environment that cannot be used ends the program: nothing would be tested.
[[noreturn]] void BadSetting(const char* name, const char* value, std::string_view wanted) {
  std::fprintf(stderr, "gpusim: %s=%s: expected %.*s\n", name, value,
               static_cast<int>(wanted.size()), wanted.data());
  std::exit(2);
}

uint64_t Setting(const char* name, uint64_t otherwise, uint64_t most) {
  const char* const text = std::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  char* end = nullptr;
  const uint64_t value = std::strtoull(text, &end, 10);
  if (*end != '\0' || value > most) BadSetting(name, text, StrCat("a number up to ", most));
  return value;
}

const Architecture* ChosenArchitecture() {
  const char* const name = std::getenv("TRIREME_GPUSIM_ARCH");
  const Architecture* chosen = ArchitectureNamed(name != nullptr ? name : "sm_80");
  if (chosen == nullptr) {
    BadSetting("TRIREME_GPUSIM_ARCH", name, "sm_80, sm_89, sm_90a or sm_100a");
  }
  return chosen;
}

std::vector<FaultPlan> ChosenFaults() {
  const char* const text = std::getenv("TRIREME_GPUSIM_FAULTS");
  const auto plans = ParseFaults(text != nullptr ? text : "");
  if (!plans.ok()) {
    BadSetting("TRIREME_GPUSIM_FAULTS", text,
               StrCat("KIND@N or KIND%N, perhaps /DEVICE, in place of '",
                      FromAbsl(plans.status().message()), "'"));
  }
  return *plans;
}

void FailOnFindings() {
  const uint64_t left = Runtime::Get().report.total();
  if (left == 0) return;
  std::fprintf(stderr, "gpusim: %llu findings that no test took: exit code %d\n",
               static_cast<unsigned long long>(left), kExitFindings);
  std::fflush(nullptr);
  _exit(kExitFindings);
}

}  // namespace

Runtime& Runtime::Get() {
  static Runtime* const runtime = [] {
    auto* made = new Runtime();  // lives as long as the objects' registrations
    std::atexit(&FailOnFindings);
    return made;
  }();
  return *runtime;
}

Runtime::Runtime()
    : profile(Setting("TRIREME_GPUSIM_PROFILE", 0, 1) != 0),
      threads(static_cast<int>(Setting("TRIREME_GPUSIM_THREADS", 2, 2))),
      host_memory(kHostMib * kMib, DeviceMemory::Visibility::kHost),
      report([](const Finding& finding) {
        std::fprintf(stderr, "gpusim: %s\n", finding.ToString().c_str());
      }),
      queues(Setting("TRIREME_GPUSIM_SEED", 1, ~uint64_t{0})),
      faults(Setting("TRIREME_GPUSIM_SEED", 1, ~uint64_t{0})),
      seeds_(Setting("TRIREME_GPUSIM_SEED", 1, ~uint64_t{0})) {
  const Architecture* const architecture = ChosenArchitecture();
  for (const FaultPlan& plan : ChosenFaults()) faults.Add(plan);
  const uint64_t bytes = Setting("TRIREME_GPUSIM_MEMORY_MB", 1024, 65536) * kMib;
  const int count = static_cast<int>(Setting("TRIREME_GPUSIM_DEVICES", 1, kMaxDevices));
  for (int i = 0; i < count; ++i) {
    auto device = std::make_unique<Device>();
    device->index = i;
    device->architecture = architecture;
    device->memory = std::make_unique<DeviceMemory>(bytes);
    device->memory->SetPeers({&host_memory});
    device->default_stream = std::make_unique<CUstream_st>();
    device->default_stream->queue = queues.Create(i, true, true, 0);
    devices_.push_back(std::move(device));
  }
}

int& Runtime::current_device() {
  thread_local int device = 0;
  return device;
}

CUstream_st* Runtime::Resolve(cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy) return device().default_stream.get();
  std::lock_guard lock(mu);
  return streams.contains(stream) ? stream : nullptr;
}

cudaError_t Runtime::Submit(cudaStream_t handle, std::string_view what,
                            std::function<cudaError_t()> work) {
  CUstream_st* const stream = Resolve(handle);
  if (stream == nullptr) return Explain(cudaErrorInvalidResourceHandle, "no such stream");
  if (stream->capture != nullptr) {
    Capture& capture = *stream->capture;
    std::lock_guard lock(mu);
    auto& last = capture.last[stream];
    capture.nodes.push_back({std::string(what), std::move(work), last});
    last = {capture.nodes.size() - 1};
    return cudaSuccess;
  }
  Device& on = device(stream->queue->device);
  queues.Enqueue(stream->queue, what, [&on, work = std::move(work)] {
    if (on.sticky != cudaSuccess) return Progress::kDone;
    const cudaError_t error = work();
    if (error == cudaErrorNotReady) return Progress::kNotYet;
    if (error != cudaSuccess) on.sticky = error;
    return Progress::kDone;
  });
  return cudaSuccess;
}

absl::StatusOr<LoadedModule*> Runtime::Load(FatBinary* binary) {
  auto& loaded = binary->loaded[current_device()];
  if (loaded == nullptr) {
    TRIREME_ASSIGN_OR_RETURN(const std::string_view ptx,
                             ChoosePtx(binary->ptx_texts, device().architecture->name));
    TRIREME_ASSIGN_OR_RETURN(loaded, LoadedModule::Load(ptx, device().memory.get()));
  }
  return loaded.get();
}

void Runtime::ReportUninitialized(std::string_view call, std::string what) {
  Finding finding;
  finding.kind = FindingKind::kUninitializedGlobal;
  finding.kernel = call;
  finding.what = std::move(what);
  report.Add(std::move(finding));
}

void Runtime::CheckOrder(const DeviceMemory& memory, uint64_t address, uint64_t bytes,
                         RangeUse use) {
  StreamOperation& operation = *StreamOperation::Current();
  Fault fault;
  if (!CheckRange(memory, address, bytes, use, operation, &fault)) {
    return;
  }
  Finding finding;
  finding.kind = fault.kind;
  finding.kernel = operation.name();
  finding.what = std::move(fault.what);
  report.Add(std::move(finding));
}

uint64_t Runtime::NewSeed() {
  std::lock_guard lock(seed_mu_);
  return seeds_();
}

void Runtime::Seed(uint64_t seed) {
  {
    std::lock_guard lock(seed_mu_);
    seeds_.seed(seed);
  }
  queues.Seed(seed);
  faults.Seed(seed);
}

cudaError_t Sticky() {
  Runtime& runtime = Runtime::Get();
  return runtime.num_devices() > 0 ? runtime.device().sticky.load() : cudaSuccess;
}

cudaError_t& LastError() {
  thread_local cudaError_t error = cudaSuccess;
  return error;
}

cudaError_t Record(cudaError_t error) {
  if (const cudaError_t sticky = Sticky(); sticky != cudaSuccess) error = sticky;
  if (error != cudaSuccess && error != cudaErrorNotReady) LastError() = error;
  return error;
}

cudaError_t Explain(cudaError_t error, std::string_view what) {
  std::fprintf(stderr, "gpusim: %s: %.*s\n", cudaGetErrorName(error), static_cast<int>(what.size()),
               what.data());
  return error;
}

std::vector<Finding> TakeFindings() { return Runtime::Get().report.Take(); }

Counters CountersOfLastLaunch() {
  Runtime& runtime = Runtime::Get();
  std::lock_guard lock(runtime.mu);
  return runtime.last_counters;
}

void SetSeed(uint64_t seed) { Runtime::Get().Seed(seed); }

void InjectFault(const FaultPlan& plan) { Runtime::Get().faults.Add(plan); }

void ClearFaults() { Runtime::Get().faults.Clear(); }

}  // namespace trireme::gpusim
