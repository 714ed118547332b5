// Rows: 128 aligned bytes that some neighbouring lanes of a warp share out among them evenly, in
// order or swizzled by an exclusive or, as coalesced and conflict-free accesses do. As long as
// whole rows are written and read, one record stands for all of a row; whoever touches a part of
// it, or deals it out in another way, opens it first: then its blocks and words count.
#pragma once

#include <cstdint>

namespace trireme::gpusim {

inline constexpr uint32_t kRowBytes = 128;

// Whose the words are: lane first + i has `words` of them, from word (i ^ swizzle) * words on.
struct RowLanes {
  uint8_t first = 0, words = 0, swizzle = 0;

  uint8_t Of(uint32_t word) const {
    return static_cast<uint8_t>(first + ((word / words) ^ swizzle));
  }
  // Calls f(lane, where its bytes begin in the row).
  template <typename F>
  void ForEach(F&& f) const {
    if (words == 1) return ForEachOf<4>(f);
    if (words == 2) return ForEachOf<8>(f);
    ForEachOf<16>(f);
  }
  template <uint32_t kBytes, typename F>
  void ForEachOf(F& f) const {
    for (uint32_t i = 0; i < kRowBytes / kBytes; ++i) f(first + i, (i ^ swizzle) * kBytes);
  }
  bool operator==(const RowLanes&) const = default;
};

}  // namespace trireme::gpusim
