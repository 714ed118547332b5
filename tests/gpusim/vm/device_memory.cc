#include "tests/gpusim/vm/device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "runtime/base/check.h"
#include "runtime/base/strings.h"
#include "tests/gpusim/vm/global_order.h"
#include "tests/gpusim/vm/stream_order.h"

namespace trireme::gpusim {
namespace {

constexpr uint64_t kAlignment = 4096;  // a page, so that a freed one goes back to the host
// Between allocations, so that running over an end never meets the next one. Addresses are not
// given out twice before the span is used up: a stale pointer is noticed, too.
constexpr uint64_t kGap = 4096;
constexpr uint64_t kSpanFactor = 8;
constexpr uint64_t kBlockBytes = GlobalBlock::kBytes;

std::byte* Map(uint64_t bytes, int protection) {
  void* at = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  TRIREME_CHECK(at != MAP_FAILED);
  return static_cast<std::byte*>(at);
}

// The allocation that this thread found last is most often the next one, too.
struct Hot {
  const DeviceMemory* owner = nullptr;
  uint64_t num_frees = 0;
  Region region;
};
thread_local Hot hot;

bool AllOnes(const std::byte* at, uint64_t size) {
  for (; size >= 8; at += 8, size -= 8) {
    uint64_t eight;
    std::memcpy(&eight, at, 8);
    if (eight != 0x0101010101010101u) return false;
  }
  return std::all_of(at, at + size, [](std::byte b) { return b == std::byte{1}; });
}

}  // namespace

bool Region::IsDefined(uint64_t address, uint64_t size) const {
  return always_defined || AllOnes(defined + (address - start), size);
}

std::mutex& MemoryLock::MutexOf(uint64_t place) {
  struct alignas(64) Alone {  // on a cache line
    std::mutex mu;
  };
  static Alone all[256];
  return all[place % std::size(all)].mu;
}

DeviceMemory::DeviceMemory(uint64_t capacity, Visibility visibility)
    : capacity_(capacity), visibility_(visibility) {
  span_ = capacity * kSpanFactor;
  bytes_ = Map(span_, PROT_READ | PROT_WRITE);
  base_ =
      reinterpret_cast<uint64_t>(visibility == Visibility::kHost ? bytes_ : Map(span_, PROT_NONE));
  defined_ = Map(span_, PROT_READ | PROT_WRITE);
  rows_ = reinterpret_cast<GlobalRow*>(
      Map(span_ / kRowBytes * sizeof(GlobalRow), PROT_READ | PROT_WRITE));
  blocks_ = reinterpret_cast<GlobalBlock*>(
      Map(span_ / kBlockBytes * sizeof(GlobalBlock), PROT_READ | PROT_WRITE));
  words_ =
      reinterpret_cast<GlobalWord*>(Map(span_ / 4 * sizeof(GlobalWord), PROT_READ | PROT_WRITE));
  stamps_ = reinterpret_cast<RowStamps*>(
      Map(span_ / kRowBytes * sizeof(RowStamps), PROT_READ | PROT_WRITE));
  word_stamps_ =
      reinterpret_cast<WordStamps*>(Map(span_ / 4 * sizeof(WordStamps), PROT_READ | PROT_WRITE));
}

DeviceMemory::~DeviceMemory() {
  if (visibility_ == Visibility::kDevice) munmap(reinterpret_cast<void*>(base_), span_);
  munmap(bytes_, span_);
  munmap(defined_, span_);
  munmap(rows_, span_ / kRowBytes * sizeof(GlobalRow));
  munmap(blocks_, span_ / kBlockBytes * sizeof(GlobalBlock));
  munmap(words_, span_ / 4 * sizeof(GlobalWord));
  munmap(stamps_, span_ / kRowBytes * sizeof(RowStamps));
  munmap(word_stamps_, span_ / 4 * sizeof(WordStamps));
}

absl::StatusOr<uint64_t> DeviceMemory::Allocate(uint64_t bytes) {
  std::lock_guard lock(mu_);
  const uint64_t size = std::max<uint64_t>(bytes, 1);
  if (size > capacity_ || used_ + size > capacity_) {
    return absl::ResourceExhaustedError(
        ToAbsl(StrCat(bytes, " bytes are wanted, ", capacity_ - used_, " are free")));
  }
  const uint64_t place = (size + kGap + kAlignment - 1) / kAlignment * kAlignment;
  if (next_ + place > span_) return absl::ResourceExhaustedError("the address range is used up");
  const uint64_t address = base_ + next_;
  next_ += place;
  used_ += size;
  allocations_[address] = size;
  return address;
}

absl::Status DeviceMemory::Free(uint64_t address) {
  std::lock_guard lock(mu_);
  const auto it = allocations_.find(address);
  if (it == allocations_.end()) return absl::InvalidArgumentError("no such allocation");
  const uint64_t offset = address - base_;
  madvise(bytes_ + offset / 4096 * 4096, it->second / 4096 * 4096, MADV_DONTNEED);
  std::memset(defined_ + offset, 0, it->second);
  // Of 4096 bytes both are whole pages.
  const uint64_t pages = it->second / 4096 * 4096;
  // Rows and their stamps are left: the addresses are not given out again.
  madvise(blocks_ + offset / kBlockBytes, pages / kBlockBytes * sizeof(GlobalBlock), MADV_DONTNEED);
  madvise(words_ + offset / 4, pages / 4 * sizeof(GlobalWord), MADV_DONTNEED);
  madvise(word_stamps_ + offset / 4, pages / 4 * sizeof(WordStamps), MADV_DONTNEED);
  used_ -= it->second;
  allocations_.erase(it);
  ++num_frees_;
  return absl::OkStatus();
}

uint64_t DeviceMemory::used() const {
  std::lock_guard lock(mu_);
  return used_;
}

DeviceMemory* DeviceMemory::OwnerOf(uint64_t address) const {
  for (DeviceMemory* peer : peers_) {
    if (peer->Owns(address)) return peer;
  }
  return nullptr;
}

Region DeviceMemory::RegionOf(uint64_t address, uint64_t size) const {
  if (!Owns(address)) {
    const DeviceMemory* owner = OwnerOf(address);
    return owner != nullptr ? owner->RegionOf(address, size) : Region{};
  }
  const uint64_t num_frees = num_frees_.load(std::memory_order_relaxed);
  if (hot.owner == this && hot.num_frees == num_frees && hot.region.Holds(address, size)) {
    return hot.region;
  }
  const auto [start, length] = AllocationOf(address);
  if (size > length || address - start > length - size) return {};
  const uint64_t offset = start - base_;
  hot = {this,
         num_frees,
         {start,
          start + length,
          bytes_ + offset,
          defined_ + offset,
          visibility_ == Visibility::kHost,
          {rows_ + offset / kRowBytes, blocks_ + offset / kBlockBytes, words_ + offset / 4,
           stamps_ + offset / kRowBytes, word_stamps_ + offset / 4, start,
           visibility_ == Visibility::kHost}}};
  return hot.region;
}

std::byte* DeviceMemory::Find(uint64_t address, uint64_t size) const {
  const Region region = RegionOf(address, size);
  return region.end != 0 ? region.bytes + (address - region.start) : nullptr;
}

std::pair<uint64_t, uint64_t> DeviceMemory::AllocationOf(uint64_t address) const {
  std::lock_guard lock(mu_);
  auto it = allocations_.upper_bound(address);
  if (it == allocations_.begin()) return {0, 0};
  --it;
  if (address - it->first >= it->second) return {0, 0};
  return *it;
}

std::string DeviceMemory::Describe(uint64_t address) const {
  if (const DeviceMemory* owner = Owns(address) ? nullptr : OwnerOf(address); owner != nullptr) {
    return owner->Describe(address);
  }
  std::lock_guard lock(mu_);
  auto it = allocations_.upper_bound(address);
  if (!Owns(address) || it == allocations_.begin()) return "no device memory is there";
  --it;
  const uint64_t end = it->first + it->second;
  return address < end ? StrCat("it runs over the end of an allocation of ", it->second, " bytes")
                       : StrCat("it is ", address - end,
                                " bytes behind the end of an allocation of ", it->second, " bytes");
}

bool DeviceMemory::Defined(uint64_t address, uint64_t size) const {
  if (!Owns(address)) {
    const DeviceMemory* owner = OwnerOf(address);
    return owner != nullptr && owner->Defined(address, size);
  }
  return visibility_ == Visibility::kHost || AllOnes(defined_ + (address - base_), size);
}

void DeviceMemory::SetDefined(uint64_t address, uint64_t size) {
  if (!Owns(address)) {
    DeviceMemory* owner = OwnerOf(address);
    if (owner != nullptr) owner->SetDefined(address, size);
    return;
  }
  std::memset(defined_ + (address - base_), 1, size);
}

void DeviceMemory::CopyDefined(uint64_t to, const DeviceMemory& source, uint64_t from,
                               uint64_t size) {
  std::memmove(defined_ + (to - base_), source.defined_ + (from - source.base_), size);
}

}  // namespace trireme::gpusim
