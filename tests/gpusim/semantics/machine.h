// Runs a few lines of PTX. Each thread finds three 64-bit inputs in %d10..12, their lower halves in
// %r10..12 and quarters in %h10..12, and leaves a result in %d20, %r20 or %h20.
//
// At hand: %p0-8, %h0-31, %r0-31, %d0-31, `tile` (4096 bytes of shared memory), %d4: 4096 bytes of
// global memory that all threads share; %r30 is %tid.x + %ntid.x * %ctaid.x.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/gpusim/vm/grid.h"

namespace trireme::gpusim {

using Inputs = std::array<uint64_t, 3>;

struct PtxLaunch {
  int threads = 1, ctas = 1;
  int cluster = 1;  // CTAs of one
  uint64_t seed = 1;
  int workers = 2;              // threads that run the launch
  bool all_resident = false;    // a cooperative launch
  bool scratch_defined = true;  // the global memory of %d4 is zero, not undefined
};

struct Result {
  absl::Status status;
  std::vector<uint64_t> out;  // by thread
  std::vector<Finding> findings;
  Counters counters;

  bool Found(FindingKind kind) const;
  std::string AllFindings() const;
};

// `result`: "d", "r" or "h". Missing inputs are zero.
Result RunPtx(std::string_view body, std::string_view result, const std::vector<Inputs>& inputs,
              const PtxLaunch& setup = {});

// One instruction on one thread: "add.u32 %r20, %r10, %r11;".
uint64_t One(std::string_view body, std::string_view result, Inputs inputs);
inline uint32_t One32(std::string_view body, uint32_t a, uint32_t b = 0, uint32_t c = 0) {
  return static_cast<uint32_t>(One(body, "r", {a, b, c}));
}
inline uint16_t One16(std::string_view body, uint16_t a, uint16_t b = 0, uint16_t c = 0) {
  return static_cast<uint16_t>(One(body, "h", {a, b, c}));
}
inline float OneFloat(std::string_view body, float a, float b = 0, float c = 0) {
  return std::bit_cast<float>(One32(body, std::bit_cast<uint32_t>(a), std::bit_cast<uint32_t>(b),
                                    std::bit_cast<uint32_t>(c)));
}

}  // namespace trireme::gpusim
