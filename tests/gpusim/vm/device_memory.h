// A device's memory: an address range that the host cannot touch, and behind it the bytes and what
// is known of them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trireme::gpusim {

struct GlobalCell;

// Thread-safe, but for SetPeers().
class DeviceMemory {
 public:
  enum class Visibility : uint8_t {
    kDevice,  // the host faults on an address
    kHost,    // page-locked host memory: the same address for host and devices, always defined
  };
  // `capacity` bytes in all. Addresses are unique over all devices of the process.
  explicit DeviceMemory(uint64_t capacity, Visibility visibility = Visibility::kDevice);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // 4096-byte aligned, undefined. RESOURCE_EXHAUSTED beyond the capacity.
  absl::StatusOr<uint64_t> Allocate(uint64_t bytes);
  absl::Status Free(uint64_t address);  // INVALID_ARGUMENT: never given out, or freed already
  uint64_t used() const;
  uint64_t capacity() const { return capacity_; }

  // Other memory that kernels of this device may touch: page-locked host memory, peer devices.
  // Before the first launch that needs it; the others outlive this.
  void SetPeers(std::vector<DeviceMemory*> peers) { peers_ = std::move(peers); }

  // The bytes behind [address, address + size), which lie within one allocation of this device or
  // of a peer; else null.
  std::byte* Find(uint64_t address, uint64_t size) const;
  // "12 bytes behind an allocation of 4096 bytes": what is wrong with an address that has none.
  std::string Describe(uint64_t address) const;
  bool Owns(uint64_t address) const { return address - base_ < span_; }
  // The allocation that holds the address: its start and size; size 0: none.
  std::pair<uint64_t, uint64_t> AllocationOf(uint64_t address) const;

  // What is remembered of the order of accesses to the word that holds the address, and behind it
  // to those that follow. Null outside of device and peer memory.
  GlobalCell* Cells(uint64_t address) const;

  // Which bytes were ever written, one a byte.
  bool Defined(uint64_t address, uint64_t size) const;
  void SetDefined(uint64_t address, uint64_t size);
  // What a copy does to it. Both ranges belong to their memories themselves.
  void CopyDefined(uint64_t to, const DeviceMemory& source, uint64_t from, uint64_t size);

 private:
  DeviceMemory* OwnerOf(uint64_t address) const;

  const uint64_t capacity_;
  const Visibility visibility_;
  std::vector<DeviceMemory*> peers_;
  uint64_t base_ = 0, span_ = 0;  // addresses given to kernels
  std::byte* bytes_ = nullptr;    // the same offsets, readable
  std::byte* defined_ = nullptr;
  GlobalCell* cells_ = nullptr;
  mutable std::mutex mu_;
  std::map<uint64_t, uint64_t> allocations_;  // address -> size; guarded by mu_
  uint64_t used_ = 0, next_ = 0;
  std::atomic<uint64_t> num_frees_ = 0;  // what a thread remembers of Find() is void after one
};

}  // namespace trireme::gpusim
