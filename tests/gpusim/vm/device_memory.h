// A device's memory: an address range that the host cannot touch, and behind it the bytes and what
// is known of them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trireme::gpusim {

struct GlobalRow;
struct GlobalBlock;
struct GlobalWord;
struct RowStamps;
struct WordStamps;

// What the checkers remember of memory from the address `start` on, a multiple of 4096
// (global_order.h): rows of 128 bytes, blocks of 16, and their words. Of other launches:
// stream_order.h.
struct GlobalCells {
  GlobalRow* rows = nullptr;
  GlobalBlock* blocks = nullptr;
  GlobalWord* words = nullptr;
  RowStamps* stamps = nullptr;
  WordStamps* word_stamps = nullptr;
  uint64_t start = 0;
  bool of_host = false;  // page-locked host memory
};

// An allocation: what lies behind its addresses [start, end), from `start` on.
struct Region {
  uint64_t start = 0, end = 0;
  std::byte* bytes = nullptr;
  std::byte* defined = nullptr;  // one a byte: 1 once it was written
  bool always_defined = false;   // page-locked host memory
  GlobalCells cells;

  bool Holds(uint64_t address, uint64_t size) const {
    return address >= start && size <= end - start && address <= end - size;
  }
  bool IsDefined(uint64_t address, uint64_t size) const;
  void SetDefined(uint64_t address, uint64_t size) const {
    std::memset(defined + (address - start), 1, size);
  }
};

// Kernels of all devices run on several threads. Whoever reads or writes device memory for one, or
// what is remembered of it, holds the lock of the place: accesses to it follow one another, those
// that race in the kernel, too. One place at a time, so that nobody waits in a circle.
class MemoryLock {
 public:
  static constexpr uint64_t kPlaceBytes = 4096;  // an aligned access of up to so many lies in one

  void Hold(uint64_t address) {
    const uint64_t place = address / kPlaceBytes;
    if (place == place_) return;
    Release();
    place_ = place;
    lock_ = std::unique_lock(MutexOf(place));
  }
  void Release() {
    if (lock_.owns_lock()) lock_.unlock();
    place_ = kNone;
  }

 private:
  static constexpr uint64_t kNone = ~uint64_t{0};
  static std::mutex& MutexOf(uint64_t place);

  uint64_t place_ = kNone;
  std::unique_lock<std::mutex> lock_;
};

// Calls f(start, size) for the parts of [address, address + size) that lie in one place each, with
// its lock held.
template <typename F>
void EachPlace(uint64_t address, uint64_t size, F&& f) {
  MemoryLock lock;
  for (const uint64_t end = address + size; address < end;) {
    const uint64_t next = (address / MemoryLock::kPlaceBytes + 1) * MemoryLock::kPlaceBytes;
    const uint64_t part = (next < end ? next : end) - address;
    lock.Hold(address);
    f(address, part);
    address += part;
  }
}

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

  // The allocation of this device or of a peer that [address, address + size) lies in; end 0: there
  // is none.
  Region RegionOf(uint64_t address, uint64_t size) const;
  // The bytes behind it, or null.
  std::byte* Find(uint64_t address, uint64_t size) const;
  // "12 bytes behind an allocation of 4096 bytes": what is wrong with an address that has none.
  std::string Describe(uint64_t address) const;
  bool Owns(uint64_t address) const { return address - base_ < span_; }
  // The allocation that holds the address: its start and size; size 0: none.
  std::pair<uint64_t, uint64_t> AllocationOf(uint64_t address) const;

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
  GlobalRow* rows_ = nullptr;
  GlobalBlock* blocks_ = nullptr;
  GlobalWord* words_ = nullptr;
  RowStamps* stamps_ = nullptr;
  WordStamps* word_stamps_ = nullptr;
  mutable std::mutex mu_;
  std::map<uint64_t, uint64_t> allocations_;  // address -> size; guarded by mu_
  uint64_t used_ = 0, next_ = 0;
  std::atomic<uint64_t> num_frees_ = 0;  // what a thread remembers of RegionOf() is void after one
};

}  // namespace trireme::gpusim
