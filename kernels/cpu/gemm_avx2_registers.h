// What the AVX2 tiles of quantised and of plain weights share. Included only by files compiled for
// this set.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/gemm_layout.h"
#include "kernels/cpu/gemm_tiles.h"

namespace trireme::cpu {
namespace {

constexpr int kLanes = 8;                        // rows per register
constexpr int kRegisters = kPanelRows / kLanes;  // registers per panel

TRIREME_INLINE __m256i Load(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// M tokens by the C registers of rows from register r on.
template <int M, int C>
TRIREME_INLINE void Store(const TileOutput& out, int r, const __m256 (&acc)[M][C]) {
  alignas(32) float sums[M][C * kLanes];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) _mm256_store_ps(sums[m] + c * kLanes, acc[m][c]);
  }
  StoreTile<C * kLanes>(out, M, r * kLanes, sums[0]);
}

}  // namespace
}  // namespace trireme::cpu
