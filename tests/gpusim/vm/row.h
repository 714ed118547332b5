// Rows: 128 aligned bytes that the lanes of a warp touch side by side, as coalesced accesses do. As
// long as whole rows are written and read, one record stands for all of a row; whoever touches a
// part of it, or in another order of lanes, opens it first: then its blocks and words count.
#pragma once

#include <cstdint>

namespace trireme::gpusim {

inline constexpr uint32_t kRowBytes = 128;

// Whose the words are: lane first + i has words [i * words, (i + 1) * words).
struct RowLanes {
  uint8_t first = 0, words = 0;

  uint8_t Of(uint32_t word) const { return static_cast<uint8_t>(first + word / words); }
  bool operator==(const RowLanes&) const = default;
};

}  // namespace trireme::gpusim
