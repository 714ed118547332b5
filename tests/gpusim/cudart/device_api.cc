// Devices: how many, which, what they can do.
#include <algorithm>
#include <cstring>
#include <string>

#include "tests/gpusim/cudart/runtime.h"

namespace trireme::gpusim {
namespace {

constexpr int kDriverVersion = 13000;

bool IsDevice(int index) { return index >= 0 && index < Runtime::Get().num_devices(); }

// Who may reach whom, after a change. Nothing of either device runs meanwhile.
void UpdatePeers(Device& device) {
  Runtime& runtime = Runtime::Get();
  std::vector<DeviceMemory*> peers = {&runtime.host_memory};
  for (const int peer : device.peers) peers.push_back(runtime.device(peer).memory.get());
  std::lock_guard idle(device.run_mu);
  device.memory->SetPeers(std::move(peers));
}

cudaError_t Attribute(const Device& device, cudaDeviceAttr attribute, int* value) {
  const Architecture& a = *device.architecture;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY:
      *value = Architecture::kThreadsPerCta;
      break;
    case cudaDevAttrMaxBlockDimZ:
      *value = 64;
      break;
    case cudaDevAttrMaxGridDimX:
      *value = 0x7fffffff;
      break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      *value = 65535;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = Architecture::kSharedBytesDefault;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = a.shared_bytes_optin;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = a.shared_bytes_per_sm;
      break;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = Architecture::kSharedBytesReserved;
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = a.num_sms;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = a.threads_per_sm;
      break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = a.ctas_per_sm;
      break;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      *value = Architecture::kRegistersPerSm;
      break;
    case cudaDevAttrL2CacheSize:
      *value = a.l2_bytes;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = a.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = a.minor;
      break;
    case cudaDevAttrClusterLaunch:
      *value = a.max_cluster > 1 ? 1 : 0;
      break;
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrCooperativeLaunch:
      *value = 1;
      break;
    case cudaDevAttrMemoryPoolsSupported:  // cudaMallocAsync; pools of one's own are not built
      *value = 1;
      break;
    case cudaDevAttrIntegrated:
    case cudaDevAttrManagedMemory:
    case cudaDevAttrPageableMemoryAccess:
      *value = 0;
      break;
    default:
      return Explain(cudaErrorNotSupported,
                     "device attribute " + std::to_string(attribute) + " is not simulated");
  }
  return cudaSuccess;
}

}  // namespace
}  // namespace trireme::gpusim

using trireme::gpusim::Architecture;
using trireme::gpusim::Device;
using trireme::gpusim::IsDevice;
using trireme::gpusim::Record;
using trireme::gpusim::Runtime;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = Runtime::Get().num_devices();
  return *count > 0 ? cudaSuccess : Record(cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int* device) {
  if (Runtime::Get().num_devices() == 0) return Record(cudaErrorNoDevice);
  *device = Runtime::current_device();
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (!IsDevice(device)) return Record(cudaErrorInvalidDevice);
  Runtime::current_device() = device;
  return Record(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = trireme::gpusim::kDriverVersion;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (!IsDevice(device)) return Record(cudaErrorInvalidDevice);
  return Record(trireme::gpusim::Attribute(Runtime::Get().device(device), attribute, value));
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* prop, int index) {
  if (!IsDevice(index)) return Record(cudaErrorInvalidDevice);
  const Device& device = Runtime::Get().device(index);
  const Architecture& a = *device.architecture;
  std::memset(prop, 0, sizeof(*prop));
  std::copy(a.device_name.begin(), a.device_name.end(), prop->name);
  prop->uuid.bytes[0] = static_cast<char>(index + 1);
  prop->totalGlobalMem = device.memory->capacity();
  prop->sharedMemPerBlock = Architecture::kSharedBytesDefault;
  prop->sharedMemPerBlockOptin = static_cast<size_t>(a.shared_bytes_optin);
  prop->sharedMemPerMultiprocessor = static_cast<size_t>(a.shared_bytes_per_sm);
  prop->reservedSharedMemPerBlock = Architecture::kSharedBytesReserved;
  prop->regsPerBlock = prop->regsPerMultiprocessor = Architecture::kRegistersPerSm;
  prop->warpSize = 32;
  prop->maxThreadsPerBlock = Architecture::kThreadsPerCta;
  prop->maxThreadsDim[0] = prop->maxThreadsDim[1] = Architecture::kThreadsPerCta;
  prop->maxThreadsDim[2] = 64;
  prop->maxGridSize[0] = 0x7fffffff;
  prop->maxGridSize[1] = prop->maxGridSize[2] = 65535;
  prop->totalConstMem = 64 * 1024;
  prop->major = a.major;
  prop->minor = a.minor;
  prop->multiProcessorCount = a.num_sms;
  prop->maxThreadsPerMultiProcessor = a.threads_per_sm;
  prop->maxBlocksPerMultiProcessor = a.ctas_per_sm;
  prop->l2CacheSize = a.l2_bytes;
  prop->canMapHostMemory = prop->unifiedAddressing = prop->concurrentKernels = 1;
  prop->memoryPoolsSupported = prop->hostRegisterSupported = 1;
  prop->clusterLaunch = a.max_cluster > 1 ? 1 : 0;
  prop->asyncEngineCount = 2;
  prop->pciBusID = index + 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  Runtime& runtime = Runtime::Get();
  runtime.queues.FinishDevice(Runtime::current_device());
  return Record(cudaSuccess);
}

// Forgets the sticky error. Allocations stay, unlike on a real device: nothing may use them.
cudaError_t cudaDeviceReset() {
  Runtime& runtime = Runtime::Get();
  runtime.queues.FinishDevice(Runtime::current_device());
  if (runtime.device().lost) return Record(cudaErrorUnknown);
  runtime.device().sticky = cudaSuccess;
  trireme::gpusim::LastError() = cudaSuccess;
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  if (!IsDevice(device) || !IsDevice(peer)) return Record(cudaErrorInvalidDevice);
  *can = device != peer ? 1 : 0;
  return Record(cudaSuccess);
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  Runtime& runtime = Runtime::Get();
  Device& device = runtime.device();
  if (!IsDevice(peer) || peer == device.index) return Record(cudaErrorInvalidDevice);
  if (flags != 0) return Record(cudaErrorInvalidValue);
  {
    std::lock_guard lock(runtime.mu);
    if (!device.peers.insert(peer).second) return Record(cudaErrorPeerAccessAlreadyEnabled);
  }
  trireme::gpusim::UpdatePeers(device);
  return Record(cudaSuccess);
}

cudaError_t cudaDeviceDisablePeerAccess(int peer) {
  Runtime& runtime = Runtime::Get();
  Device& device = runtime.device();
  if (!IsDevice(peer)) return Record(cudaErrorInvalidDevice);
  runtime.queues.FinishDevice(device.index);
  {
    std::lock_guard lock(runtime.mu);
    if (device.peers.erase(peer) == 0) return Record(cudaErrorPeerAccessNotEnabled);
  }
  trireme::gpusim::UpdatePeers(device);
  return Record(cudaSuccess);
}

}  // extern "C"
