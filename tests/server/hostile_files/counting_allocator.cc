#include "tests/server/hostile_files/counting_allocator.h"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace trireme {
namespace {

std::atomic<int64_t> g_live = 0, g_peak = 0, g_start = 0;

}  // namespace

void StartCounting() { g_peak = g_start = g_live.load(); }
int64_t PeakBytes() { return g_peak - g_start; }

namespace {

void* Allocate(size_t bytes, size_t alignment) {
  void* memory = alignment == 0 ? std::malloc(bytes) : std::aligned_alloc(alignment, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  const int64_t live = g_live += static_cast<int64_t>(malloc_usable_size(memory));
  int64_t peak = g_peak;
  while (live > peak && !g_peak.compare_exchange_weak(peak, live)) {
  }
  return memory;
}

void Free(void* memory) {
  if (memory != nullptr) g_live -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

size_t RoundUp(size_t bytes, std::align_val_t alignment) {
  const auto unit = static_cast<size_t>(alignment);
  return (bytes + unit - 1) / unit * unit;
}

}  // namespace
}  // namespace trireme

void* operator new(size_t bytes) { return trireme::Allocate(bytes, 0); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  return trireme::Allocate(trireme::RoundUp(bytes, alignment), static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept { trireme::Free(memory); }
void operator delete(void* memory, size_t) noexcept { trireme::Free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { trireme::Free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { trireme::Free(memory); }
