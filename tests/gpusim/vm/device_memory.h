// A device's memory: an address range that the host cannot touch, and behind it the bytes and what
// is known of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trireme::gpusim {

class DeviceMemory {
 public:
  // `capacity` bytes in all. Addresses are unique over all devices of the process.
  explicit DeviceMemory(uint64_t capacity);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // 4096-byte aligned, uninitialised. RESOURCE_EXHAUSTED beyond the capacity.
  absl::StatusOr<uint64_t> Allocate(uint64_t bytes);
  absl::Status Free(uint64_t address);  // INVALID_ARGUMENT: never given out, or freed already
  uint64_t used() const;
  uint64_t capacity() const { return capacity_; }

  // The bytes behind [address, address + size), which lie within one allocation; else null.
  std::byte* Find(uint64_t address, uint64_t size) const;
  // "12 bytes behind an allocation of 4096 bytes": what is wrong with an address that has none.
  std::string Describe(uint64_t address) const;
  bool Owns(uint64_t address) const { return address - base_ < span_; }

  // Which bytes were ever written, one a byte.
  bool Defined(uint64_t address, uint64_t size) const;
  void SetDefined(uint64_t address, uint64_t size);

 private:
  const uint64_t capacity_;
  uint64_t base_ = 0, span_ = 0;  // addresses given to kernels
  std::byte* bytes_ = nullptr;    // the same offsets, readable
  std::byte* defined_ = nullptr;
  mutable std::mutex mu_;
  std::map<uint64_t, uint64_t> allocations_;  // address -> size; guarded by mu_
  uint64_t used_ = 0, next_ = 0;
  // The allocation that was found last, most often the next one, too.
  mutable uint64_t hot_start_ = 0, hot_end_ = 0;
};

}  // namespace trireme::gpusim
