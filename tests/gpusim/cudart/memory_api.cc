// Memory: of devices, page-locked, and copies between all of them.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/strings.h"
#include "tests/gpusim/cudart/graph.h"
#include "tests/gpusim/cudart/memory.h"
#include "tests/gpusim/cudart/runtime.h"

using trireme::gpusim::Copy;
using trireme::gpusim::Explain;
using trireme::gpusim::Record;
using trireme::gpusim::Runtime;
using trireme::gpusim::Set;
using trireme::gpusim::Synchrony;

namespace trireme::gpusim {
namespace {

uint64_t Number(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

Device* OwnerOf(const void* pointer) {
  Runtime& runtime = Runtime::Get();
  for (int i = 0; i < runtime.num_devices(); ++i) {
    if (runtime.device(i).memory->Owns(Number(pointer))) return &runtime.device(i);
  }
  return nullptr;
}

// For a call on `device`.
cudaError_t Allocate(int device, DeviceMemory& memory, void** pointer, size_t bytes) {
  if (pointer == nullptr) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (Sticky() != cudaSuccess) return Sticky();
  if (bytes == 0) return cudaSuccess;
  if (Runtime::Get().faults.Next(FaultPoint::kAllocation, device).has_value()) {
    return cudaErrorMemoryAllocation;
  }
  const absl::StatusOr<uint64_t> address = memory.Allocate(bytes);
  if (!address.ok()) return cudaErrorMemoryAllocation;
  *pointer = reinterpret_cast<void*>(*address);
  return cudaSuccess;
}

cudaError_t Symbol(const void* symbol, size_t bytes, size_t offset, char** address) {
  Runtime& runtime = Runtime::Get();
  std::lock_guard lock(runtime.mu);
  const auto known = runtime.variables.find(symbol);
  if (known == runtime.variables.end()) return cudaErrorInvalidSymbol;
  absl::StatusOr<LoadedModule*> module = runtime.Load(known->second.binary);
  if (!module.ok()) {
    return Explain(cudaErrorNoKernelImageForDevice, FromAbsl(module.status().message()));
  }
  const auto place = (*module)->VariableNamed(known->second.name);
  if (!place.ok()) return Explain(cudaErrorInvalidSymbol, FromAbsl(place.status().message()));
  if (offset > place->size || bytes > place->size - offset) return cudaErrorInvalidValue;
  *address = reinterpret_cast<char*>(place->address + offset);
  return cudaSuccess;
}

}  // namespace
}  // namespace trireme::gpusim

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  auto& device = Runtime::Get().device();
  return Record(trireme::gpusim::Allocate(device.index, *device.memory, pointer, bytes));
}

cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return Record(cudaSuccess);
  auto* const device = trireme::gpusim::OwnerOf(pointer);
  if (device == nullptr) return Record(cudaErrorInvalidValue);
  Runtime::Get().queues.FinishDevice(device->index);  // as the real one does
  const bool known = device->memory->Free(trireme::gpusim::Number(pointer)).ok();
  return Record(known ? cudaSuccess : Explain(cudaErrorInvalidValue, "cudaFree: not allocated"));
}

cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t stream) {
  CUstream_st* const queue = Runtime::Get().Resolve(stream);
  if (queue == nullptr) return Record(cudaErrorInvalidResourceHandle);
  if (queue->capture != nullptr) return Record(cudaErrorStreamCaptureUnsupported);
  const int device = queue->queue->device;
  return Record(
      trireme::gpusim::Allocate(device, *Runtime::Get().device(device).memory, pointer, bytes));
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  if (pointer == nullptr) return Record(cudaSuccess);
  auto* const device = trireme::gpusim::OwnerOf(pointer);
  const uint64_t address = trireme::gpusim::Number(pointer);
  if (device == nullptr || device->memory->AllocationOf(address).first != address) {
    return Record(Explain(cudaErrorInvalidValue, "cudaFreeAsync: not allocated"));
  }
  return Record(Runtime::Get().Submit(stream, "free", [device, address] {
    Runtime::Get().CheckOrder(*device->memory, address,
                              device->memory->AllocationOf(address).second,
                              trireme::gpusim::RangeUse::kFree);
    return device->memory->Free(address).ok() ? cudaSuccess : cudaErrorInvalidValue;
  }));
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return Record(trireme::gpusim::Allocate(Runtime::current_device(), Runtime::Get().host_memory,
                                          pointer, bytes));
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  return cudaMallocHost(pointer, bytes);
}

cudaError_t cudaFreeHost(void* pointer) {
  if (pointer == nullptr) return Record(cudaSuccess);
  Runtime& runtime = Runtime::Get();
  for (int i = 0; i < runtime.num_devices(); ++i) runtime.queues.FinishDevice(i);
  const bool known = runtime.host_memory.Free(trireme::gpusim::Number(pointer)).ok();
  return Record(known ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostGetDevicePointer(void** device_pointer, void* host_pointer, unsigned flags) {
  if (flags != 0 || !Runtime::Get().host_memory.Owns(trireme::gpusim::Number(host_pointer))) {
    return Record(cudaErrorInvalidValue);
  }
  *device_pointer = host_pointer;
  return Record(cudaSuccess);
}

// Copies from and to it are asynchronous then; kernels cannot reach it.
cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
  Runtime& runtime = Runtime::Get();
  std::lock_guard lock(runtime.mu);
  if (pointer == nullptr || bytes == 0) return Record(cudaErrorInvalidValue);
  const bool is_new = runtime.registered_host.emplace(pointer, bytes).second;
  return Record(is_new ? cudaSuccess : cudaErrorHostMemoryAlreadyRegistered);
}

cudaError_t cudaHostUnregister(void* pointer) {
  Runtime& runtime = Runtime::Get();
  std::lock_guard lock(runtime.mu);
  return Record(runtime.registered_host.erase(pointer) == 1 ? cudaSuccess
                                                            : cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const auto& memory = *Runtime::Get().device().memory;
  *total_bytes = memory.capacity();
  *free_bytes = memory.capacity() - memory.used();
  return Record(cudaSuccess);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  std::memset(attributes, 0, sizeof(*attributes));
  attributes->device = -1;
  attributes->hostPointer = const_cast<void*>(pointer);
  if (const auto* device = trireme::gpusim::OwnerOf(pointer); device != nullptr) {
    attributes->type = cudaMemoryTypeDevice;
    attributes->device = device->index;
    attributes->devicePointer = const_cast<void*>(pointer);
    attributes->hostPointer = nullptr;
  } else if (Runtime::Get().host_memory.Owns(trireme::gpusim::Number(pointer))) {
    attributes->type = cudaMemoryTypeHost;
    attributes->device = Runtime::current_device();
    attributes->devicePointer = const_cast<void*>(pointer);
  } else {
    attributes->type = cudaMemoryTypeUnregistered;
  }
  return Record(cudaSuccess);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return Record(Copy({to, from, bytes}, kind, nullptr, Synchrony::kWaits));
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return Record(Copy({to, from, bytes}, kind, stream, Synchrony::kReturns));
}

cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                         size_t width, size_t height, cudaMemcpyKind kind) {
  return Record(
      Copy({to, from, width, height, to_pitch, from_pitch}, kind, nullptr, Synchrony::kWaits));
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  return Record(
      Copy({to, from, width, height, to_pitch, from_pitch}, kind, stream, Synchrony::kReturns));
}

cudaError_t cudaMemcpyPeer(void* to, int, const void* from, int, size_t bytes) {
  return Record(Copy({to, from, bytes}, cudaMemcpyDeviceToDevice, nullptr, Synchrony::kWaits));
}

cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes,
                                cudaStream_t stream) {
  return Record(Copy({to, from, bytes}, cudaMemcpyDeviceToDevice, stream, Synchrony::kReturns));
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return Record(Set(to, value, bytes, nullptr));
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return Record(Set(to, value, bytes, stream));
}

cudaError_t cudaGetSymbolAddress(void** pointer, const void* symbol) {
  char* address = nullptr;
  const cudaError_t error = trireme::gpusim::Symbol(symbol, 0, 0, &address);
  if (error == cudaSuccess) *pointer = address;
  return Record(error);
}

cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, size_t bytes, size_t offset,
                               cudaMemcpyKind kind) {
  char* to = nullptr;
  const cudaError_t error = trireme::gpusim::Symbol(symbol, bytes, offset, &to);
  if (error != cudaSuccess) return Record(error);
  return cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaMemcpyFromSymbol(void* to, const void* symbol, size_t bytes, size_t offset,
                                 cudaMemcpyKind kind) {
  char* from = nullptr;
  const cudaError_t error = trireme::gpusim::Symbol(symbol, bytes, offset, &from);
  if (error != cudaSuccess) return Record(error);
  return cudaMemcpy(to, from, bytes, kind);
}

}  // extern "C"
