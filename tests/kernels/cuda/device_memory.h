// Device memory for tests of CUDA kernels. Errors of the runtime fail the test at once.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "runtime/base/dtype.h"

namespace trireme::cuda {

inline void Check(cudaError_t error) { ASSERT_EQ(error, cudaSuccess) << cudaGetErrorString(error); }

// Skips on a machine without a device. The simulator always has one, and a process that ends with
// findings nobody took fails by itself.
inline bool HasDevice() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}
#define SKIP_WITHOUT_DEVICE() \
  if (!trireme::cuda::HasDevice()) GTEST_SKIP() << "skipped: no GPU"

// An array in device memory. Guarded by the simulator's bounds checks, and uninitialised unless
// filled.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size) {
    if (size > 0) Check(cudaMalloc(&data_, size * sizeof(T)));
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    if (size_ > 0)
      Check(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* get() const { return static_cast<T*>(data_); }
  size_t size() const { return size_; }
  // Waits for the default stream.
  std::vector<T> Read() const {
    std::vector<T> values(size_);
    if (size_ > 0) {
      Check(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    }
    return values;
  }

 private:
  void* data_ = nullptr;
  size_t size_;
};

// Floats as elements of `type` (kBF16 or kF16), and back.
inline std::vector<uint16_t> Narrow(DType type, const std::vector<float>& values) {
  std::vector<uint16_t> narrow;
  for (const float v : values) {
    narrow.push_back(type == DType::kBF16 ? FloatToBF16(v) : FloatToF16(v));
  }
  return narrow;
}
inline std::vector<float> Widen(DType type, const std::vector<uint16_t>& values) {
  std::vector<float> wide;
  for (const uint16_t v : values) {
    wide.push_back(type == DType::kBF16 ? BF16ToFloat(v) : F16ToFloat(v));
  }
  return wide;
}

}  // namespace trireme::cuda
