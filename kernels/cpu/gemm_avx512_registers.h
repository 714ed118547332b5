// What the AVX-512 tiles of quantised and of plain weights share. Included only by gemm_avx512.cc.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/gemm_layout.h"
#include "kernels/cpu/gemm_tiles.h"

namespace trireme::cpu {
namespace {

constexpr int kLanes = 16;  // rows per register: a half of the panel

TRIREME_INLINE __m512i Load(const uint8_t* p) { return _mm512_loadu_si512(p); }

// Asks for the lines that M tokens' results go to: a token's row is far from the next one's.
template <int M>
TRIREME_INLINE void PrefetchOutput(const TileOutput& out) {
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    __builtin_prefetch(out.y + m * out.stride, 1);
    __builtin_prefetch(out.y + m * out.stride + kLanes, 1);
  }
}

template <int M>
TRIREME_INLINE void Store(const TileOutput& out, const __m512 (&acc)[M][2]) {
  if (out.columns == kPanelRows && out.bias == nullptr) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      _mm512_storeu_ps(out.y + m * out.stride, acc[m][0]);
      _mm512_storeu_ps(out.y + m * out.stride + kLanes, acc[m][1]);
    }
    return;
  }
  alignas(64) float sums[M][kPanelRows];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    _mm512_store_ps(sums[m], acc[m][0]);
    _mm512_store_ps(sums[m] + kLanes, acc[m][1]);
  }
  StoreTile<kPanelRows>(out, M, 0, sums[0]);
}

}  // namespace
}  // namespace trireme::cpu
