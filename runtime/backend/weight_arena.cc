#include "runtime/backend/weight_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kChunkBytes = size_t{64}
                               << 20;  // address space; only what is written takes memory

// The number at the start of a file; max when there is none ("max", no such file).
size_t ReadNumber(const char* path) {
  std::ifstream file(path);
  size_t value;
  return file >> value ? value : std::numeric_limits<size_t>::max();
}

size_t MemAvailable() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  size_t kilobytes;
  std::string unit;
  while (file >> key >> kilobytes) {
    if (key == "MemAvailable:") return kilobytes * 1024;
    std::getline(file, unit);
  }
  return std::numeric_limits<size_t>::max();
}

}  // namespace

size_t AvailableMemoryBytes() {
  const size_t limit = ReadNumber("/sys/fs/cgroup/memory.max");
  if (limit == std::numeric_limits<size_t>::max()) return MemAvailable();
  const size_t current = ReadNumber("/sys/fs/cgroup/memory.current");
  return std::min(MemAvailable(), limit > current ? limit - current : 0);
}

struct WeightArena::Chunk {
  uint8_t* mapping = nullptr;
  size_t mapped_bytes = 0;
  uint8_t* data = nullptr;  // aligned to huge pages
  size_t size = 0;

  ~Chunk() {
    if (mapping != nullptr) munmap(mapping, mapped_bytes);
  }
};

absl::StatusOr<std::shared_ptr<uint8_t>> WeightArena::Allocate(size_t bytes) {
  const size_t available = AvailableMemoryBytes();
  if (bytes > available) {
    return absl::ResourceExhaustedError(
        StrCat("not enough memory: ", bytes, " bytes needed, ", available, " bytes available"));
  }
  const size_t rounded = (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  if (chunk_ == nullptr || chunk_->size - used_ < rounded) {
    auto chunk = std::make_shared<Chunk>();
    chunk->size = std::max(kChunkBytes, rounded);
    chunk->mapped_bytes = chunk->size + kHugePage;
    void* mapping = mmap(nullptr, chunk->mapped_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) {
      return absl::ResourceExhaustedError(
          StrCat("cannot map memory: ", bytes, " bytes needed, ", available, " bytes available"));
    }
    chunk->mapping = static_cast<uint8_t*>(mapping);
    chunk->data = chunk->mapping + (-reinterpret_cast<uintptr_t>(mapping) & (kHugePage - 1));
    if (huge_pages_) madvise(chunk->data, chunk->size, MADV_HUGEPAGE);  // a hint; may fail
    chunk_ = std::move(chunk);
    used_ = 0;
  }
  std::shared_ptr<uint8_t> piece(chunk_, chunk_->data + used_);
  used_ += rounded;
  return piece;
}

}  // namespace trireme
