// Matrix products with AVX2, FMA and F16C.
//
// A tile is M tokens by 8 * C rows. Whatever the tile, each output runs through K in order with the
// same operations, so results do not depend on M.
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm_avx2_blocks.h"
#include "kernels/cpu/gemm_avx2_registers.h"
#include "kernels/cpu/gemm_quantize_avx2.h"
#include "kernels/cpu/isa.h"

namespace trireme::cpu {
namespace {

// Elements k and, for BF16, k + 1 of the eight rows of register r.
template <DType kType>
TRIREME_INLINE __m256 LoadPlain(const uint8_t* panel, int64_t k, int r) {
  if constexpr (kType == DType::kF32) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(panel) + k * kPanelRows + r * kLanes);
  } else {
    const uint8_t* p = panel + (k * kPanelRows + r * kLanes) * 2;
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
}

TRIREME_INLINE __m256i LoadPairs(const uint8_t* panel, int64_t k, int r) {
  return Load(panel + (k / 2 * kPanelRows + r * kLanes) * 4);
}
TRIREME_INLINE __m256 Even(__m256i pairs) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}
// Eight masks in memory: a register for them is one too many for the largest tile.
alignas(32) constexpr uint32_t kOddMask[kLanes] = {0xffff0000u, 0xffff0000u, 0xffff0000u,
                                                   0xffff0000u, 0xffff0000u, 0xffff0000u,
                                                   0xffff0000u, 0xffff0000u};
TRIREME_INLINE __m256 Odd(__m256i pairs, const uint32_t* mask) {
  return _mm256_castsi256_ps(
      _mm256_and_si256(pairs, _mm256_load_si256(reinterpret_cast<const __m256i*>(mask))));
}

// acc += w * x. The instruction itself, since GCC overwrites x in places and then has no register
// left for a sum: a tile that fills all sixteen runs at two thirds of its speed.
TRIREME_INLINE void AddProduct(__m256 w, __m256 x, __m256* acc) {
  asm("vfmadd231ps %2, %1, %0" : "+x"(*acc) : "x"(w), "x"(x));
}

// M tokens by C registers, starting at register r. M * C sums, C weights and an activation are 16
// registers at most.
template <DType kType, int M, int C>
[[gnu::noinline]] void PlainTile(const Panel& panel, Ahead* ahead_of_all,
                                 const uint8_t* activations, int64_t stride, int r,
                                 const TileOutput& out) {
  __m256 acc[M][C] = {};
  const auto add = [&](int64_t k, const __m256* w) TRIREME_INLINE_LAMBDA {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const __m256 x =
          _mm256_broadcast_ss(reinterpret_cast<const float*>(activations + m * stride) + k);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) AddProduct(w[c], x, &acc[m][c]);
    }
  };
  const uint8_t* data = panel.data;
  Ahead ahead = *ahead_of_all;
  __m256 w[C];
  for (int64_t k = 0; k < panel.cols;) {
    ahead.Step();
    const int64_t end = panel.cols - k < kPlainStep ? panel.cols : k + kPlainStep;
    if constexpr (kType == DType::kBF16) {
      for (; k + 1 < end; k += 2) {
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) w[c] = Even(LoadPairs(data, k, r + c));
        add(k, w);
        // Loaded again, and the mask for every pair: held, they would cost registers.
        const uint8_t* again = data;
        const uint32_t* mask = kOddMask;
        asm("" : "+r"(again), "+r"(mask));
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) w[c] = Odd(LoadPairs(again, k, r + c), mask);
        add(k + 1, w);
      }
      if (k < end) {  // the last of an odd K
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) w[c] = Even(LoadPairs(data, k, r + c));
        add(k++, w);
      }
    } else {
      for (; k < end; ++k) {
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) w[c] = LoadPlain<kType>(data, k, r + c);
        add(k, w);
      }
    }
  }
  *ahead_of_all = ahead;
  Store(out, r, acc);
}

// Tiles of tokens outside, registers inside: a tile's activations stay in the L1 cache for the
// whole panel, and the panel stays in L1 or L2 for all tiles.
struct Avx2 {
  template <DType kType>
  static void Multiply(const Panel& panel, const uint8_t* activations, int64_t stride,
                       int64_t num_tokens, const TileOutput& out) {
    // A single token passes once over the whole panel, tiles over its halves.
    if (num_tokens == 1) {
      if constexpr (IsQuantized(kType)) {
        return BlockRow<kType>(panel, activations, out);
      } else {
        Ahead ahead = Ahead::Of<kType>(panel, 1);
        return PlainTile<kType, 1, 4>(panel, &ahead, activations, stride, 0, out);
      }
    }
    constexpr int kTokens = IsQuantized(kType) ? 4 : 6;
    Ahead ahead = Ahead::Of<kType>(panel, 2 * ((num_tokens + kTokens - 1) / kTokens));
    ForEachTile<kTokens>(num_tokens, [&]<int M>(int64_t first) {
      const uint8_t* x = activations + first * stride;
      for (int half = 0; half * kHalfRows < out.columns; ++half) {
        if constexpr (IsQuantized(kType)) {
          BlockTile<kType, M>(panel, &ahead, x, stride, half, out.At(first));
        } else {
          PlainTile<kType, M, 2>(panel, &ahead, x, stride, 2 * half, out.At(first));
        }
      }
    });
  }
};

}  // namespace

void FillGemmAvx2(Kernels* table) {
  table->quantize_activation = QuantizeActivation;
  table->matmul = MatMul<Avx2>;
}

}  // namespace trireme::cpu
