// Memory for prepared weights: large anonymous mappings on huge pages (a decode step reads all of
// it: with 4 KiB pages the TLB misses cost several percent), cut into 64-byte aligned pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

namespace trireme {

// Used by one thread.
class WeightArena {
 public:
  explicit WeightArena(bool huge_pages) : huge_pages_(huge_pages) {}

  // Zeroed, 64-byte aligned. The mapping lives as long as any piece of it. RESOURCE_EXHAUSTED names
  // the bytes needed and available: Linux would grant the mapping and kill the process when the
  // pages are written.
  absl::StatusOr<std::shared_ptr<uint8_t>> Allocate(size_t bytes);

 private:
  struct Chunk;
  const bool huge_pages_;
  std::shared_ptr<Chunk> chunk_;  // the one that pieces are cut from
  size_t used_ = 0;
};

}  // namespace trireme
