#include "runtime/backend/cuda_memory.h"

#include "runtime/base/strings.h"

namespace trireme {
namespace {

class DeviceBuffer final : public Buffer {
 public:
  DeviceBuffer(void* data, size_t size) : data_(data), size_(size) {}
  ~DeviceBuffer() override { cudaFree(data_); }
  void* data() override { return data_; }
  size_t size_bytes() const override { return size_; }

 private:
  void* const data_;
  const size_t size_;
};

class PinnedBuffer final : public Buffer {
 public:
  PinnedBuffer(void* data, size_t size) : data_(data), size_(size) {}
  ~PinnedBuffer() override { cudaFreeHost(data_); }
  void* data() override { return data_; }
  size_t size_bytes() const override { return size_; }

 private:
  void* const data_;
  const size_t size_;
};

}  // namespace

absl::Status CudaStatus(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string message =
      StrCat(what, ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")");
  return error == cudaErrorMemoryAllocation ? absl::ResourceExhaustedError(message)
                                            : absl::InternalError(message);
}

absl::StatusOr<std::unique_ptr<Buffer>> AllocateDevice(size_t bytes) {
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, bytes > 0 ? bytes : 1);
  if (error == cudaSuccess) return std::make_unique<DeviceBuffer>(data, bytes);
  cudaGetLastError();  // not sticky: the next call must not report it again
  size_t free = 0, total = 0;
  if (error != cudaErrorMemoryAllocation || cudaMemGetInfo(&free, &total) != cudaSuccess) {
    return CudaStatus(error, StrCat("allocating ", bytes, " bytes of device memory"));
  }
  return absl::ResourceExhaustedError(
      StrCat("not enough device memory: ", bytes, " bytes needed, ", free, " of ", total, " free"));
}

absl::StatusOr<std::unique_ptr<Buffer>> AllocatePinned(size_t bytes) {
  void* data = nullptr;
  const cudaError_t error = cudaHostAlloc(&data, bytes > 0 ? bytes : 1, cudaHostAllocPortable);
  if (error == cudaSuccess) return std::make_unique<PinnedBuffer>(data, bytes);
  cudaGetLastError();
  return CudaStatus(error, StrCat("allocating ", bytes, " bytes of page-locked memory"));
}

}  // namespace trireme
