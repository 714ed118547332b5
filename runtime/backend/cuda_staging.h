// Arrays that the host fills in page-locked memory and the device reads at the same offsets of its
// own: one allocation of each, pieces of which are uploaded.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string_view>

#include "runtime/backend/cuda_memory.h"
#include "runtime/base/status.h"

namespace trireme {

// Lays arrays out one behind the other from `memory` on; null: only to learn the size.
class ArrayPlacer {
 public:
  explicit ArrayPlacer(void* memory) : memory_(static_cast<uint8_t*>(memory)) {}

  template <typename T>
  void Place(size_t count, T** array) {
    *array = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_bytes_);
    used_bytes_ += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
  }
  size_t used_bytes() const { return used_bytes_; }

 private:
  static constexpr size_t kAlignment = 256;
  uint8_t* const memory_;
  size_t used_bytes_ = 0;
};

// `Arrays` is a struct of pointers. Used by one thread, which has made the device current.
template <typename Arrays>
class StagedArrays {
 public:
  // `place(ArrayPlacer*, Arrays*)` places each array.
  template <typename F>
  absl::Status Allocate(F&& place) {
    ArrayPlacer sizes(nullptr);
    place(&sizes, &host);
    TRIREME_ASSIGN_OR_RETURN(host_memory_, AllocatePinned(sizes.used_bytes()));
    TRIREME_ASSIGN_OR_RETURN(device_memory_, AllocateDevice(sizes.used_bytes()));
    ArrayPlacer on_host(host_memory_->data()), on_device(device_memory_->data());
    place(&on_host, &host);
    place(&on_device, &device);
    return absl::OkStatus();
  }

  // Enqueues the upload of `bytes` from `from` on, which is in the host's memory; `what` names it
  // in errors.
  absl::Status Upload(const void* from, size_t bytes, std::string_view what, cudaStream_t stream) {
    if (bytes == 0) return absl::OkStatus();
    const auto offset =
        static_cast<const uint8_t*>(from) - static_cast<const uint8_t*>(host_memory_->data());
    return CudaStatus(cudaMemcpyAsync(static_cast<uint8_t*>(device_memory_->data()) + offset, from,
                                      bytes, cudaMemcpyHostToDevice, stream),
                      what);
  }

  Arrays host = {}, device = {};  // null before Allocate

 private:
  std::unique_ptr<Buffer> host_memory_, device_memory_;
};

}  // namespace trireme
