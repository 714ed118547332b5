// What launch functions ask of the current device. Host side.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
#include <cstdint>

namespace trireme::cuda {

// An attribute that is never 0, asked for once a device: asking the driver before every launch
// costs as much as the launch. 1 where there is no device: the launch will say so.
template <cudaDeviceAttr kAttribute>
int DeviceAttribute() {
  static std::array<std::atomic<int>, 64> known{};
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 1;
  std::atomic<int>& entry = known[static_cast<size_t>(device) % known.size()];
  int value = entry.load(std::memory_order_relaxed);
  if (value == 0) {
    if (cudaDeviceGetAttribute(&value, kAttribute, device) != cudaSuccess) return 1;
    entry.store(value, std::memory_order_relaxed);
  }
  return value;
}
inline int NumSms() { return DeviceAttribute<cudaDevAttrMultiProcessorCount>(); }

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace trireme::cuda
