// What holds of every checkpoint that was opened.
#pragma once

#include "runtime/weights/checkpoint.h"
#include "tests/fuzz/fuzz.h"

namespace trireme::fuzz {

// Tensors can be found and read, and are together no larger than the file: none overlap.
inline void CheckTensors(const Checkpoint& checkpoint, size_t file_bytes) {
  int64_t total = 0;
  for (const std::string& name : checkpoint.Names()) {
    const auto tensor = checkpoint.Find(name);
    FUZZ_CHECK(tensor.ok(), name);
    const int64_t bytes = tensor->size_bytes();
    FUZZ_CHECK(bytes >= 0 && static_cast<uint64_t>(bytes) <= file_bytes, name);
    if (bytes > 0) {
      const volatile char* data = static_cast<const char*>(tensor->data);
      (void)data[0];
      (void)data[bytes - 1];
    }
    total += bytes;
  }
  FUZZ_CHECK(total == checkpoint.size_bytes(), "the sum of all tensors");
  FUZZ_CHECK(static_cast<uint64_t>(total) <= file_bytes, "tensors share bytes");
  FUZZ_CHECK(checkpoint.Health().ok(), "nobody has truncated it");
}

}  // namespace trireme::fuzz
