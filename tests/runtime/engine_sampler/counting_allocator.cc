// Counts the allocations of the test program. In a file of its own, so that the compiler does not
// look through it.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace trireme {
std::atomic<int64_t> num_allocations{0};
}  // namespace trireme

void* operator new(size_t size, const std::nothrow_t&) noexcept {
  ++trireme::num_allocations;
  return std::malloc(size);
}
void* operator new(size_t size) {
  if (void* memory = operator new(size, std::nothrow)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
