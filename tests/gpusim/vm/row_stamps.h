// How a row's stamps (stream_order.h) are made: of a launch's records, or of what a copy touches.
// The place's MemoryLock is held.
#pragma once

#include <algorithm>
#include <cstdint>

#include "tests/gpusim/vm/device_memory.h"

namespace trireme::gpusim {

// The bytes of the row's word `word` in [from, to) of the row.
inline uint8_t BytesOf(uint32_t word, uint64_t from, uint64_t to) {
  const uint64_t first = std::max<uint64_t>(from, word * 4) - word * 4;
  const uint64_t last = std::min<uint64_t>(to, word * 4 + 4) - word * 4;
  return static_cast<uint8_t>(((1u << last) - 1) & ~((1u << first) - 1));
}

// Calls f(word, its bytes) for [from, to) of a row.
template <typename F>
void EachWord(uint64_t from, uint64_t to, F&& f) {
  for (auto word = static_cast<uint32_t>(from / 4); word * 4 < to; ++word) {
    f(word, BytesOf(word, from, to));
  }
}

// `operation` has touched [from, to) of the row.
void StampPart(const GlobalCells& cells, uint64_t row, uint64_t from, uint64_t to,
               uint32_t operation, bool writes);
// What the row's records say of its launch goes into the stamps; the row is nobody's then.
void FoldRow(const GlobalCells& cells, uint64_t row);

}  // namespace trireme::gpusim
