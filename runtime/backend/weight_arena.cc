#include "runtime/backend/weight_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <limits>

#include "runtime/base/memory.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kChunkBytes = size_t{64}
                               << 20;  // address space; only what is written takes memory

}  // namespace

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
  // Unknown: the kernel will tell.
  const size_t available =
      static_cast<size_t>(AvailableMemoryBytes().value_or(std::numeric_limits<int64_t>::max()));
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
