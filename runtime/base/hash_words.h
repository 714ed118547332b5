// A checksum at the speed of memory, for bytes that may be damaged, not forged: a change of any
// one 64-bit word always changes it, since every step is a bijection of the word and of the state.
#pragma once

#include <cstdint>
#include <cstring>

#include "absl/types/span.h"

namespace trireme {

inline uint64_t HashWords64(absl::Span<const uint8_t> bytes, uint64_t seed = 0) {
  constexpr int kLanes = 8;  // independent multiplications: one alone would wait for itself
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15;
  const auto mix = [](uint64_t state, uint64_t word) {
    state = (state ^ word) * kOdd;
    return state ^ (state >> 32);
  };
  uint64_t lanes[kLanes] = {1, 2, 3, 4, 5, 6, 7, 8};
  size_t at = 0;
  for (; bytes.size() - at >= sizeof(lanes); at += sizeof(lanes)) {
    uint64_t words[kLanes];
    std::memcpy(words, bytes.data() + at, sizeof(words));
    for (int i = 0; i < kLanes; ++i) lanes[i] = mix(lanes[i], words[i]);
  }
  uint64_t hash = mix(seed, bytes.size());
  for (const uint64_t lane : lanes) hash = mix(hash, lane);
  for (; at < bytes.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    const size_t left = bytes.size() - at;
    std::memcpy(&word, bytes.data() + at, left < sizeof(word) ? left : sizeof(word));
    hash = mix(hash, word);
  }
  return hash;
}

}  // namespace trireme
