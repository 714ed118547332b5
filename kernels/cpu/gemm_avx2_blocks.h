// Quantised weights with AVX2, multiplied as integers. Included only by files compiled for this
// set.
//
// vpmaddubsw multiplies unsigned by signed bytes and adds neighbours into 16 bits, with saturation;
// the following bounds show that nothing ever saturates (|a| <= 127, see ActivationBlock):
//   unsigned codes c: a pair is at most 2 * 127 * max_code, so 32767 / (254 * max_code) of them add
//     up safely in 16 bits: 8 for 4-bit, 4 for 5-bit, 2 for 6-bit codes; only then vpmaddwd widens
//     to 32 bits.
//   signed codes w (int8, a file may hold -128): |w| * sign(w) a. |w| <= 128 fits an unsigned byte,
//     and the negation of a cannot overflow; a pair is at most 2 * 128 * 127 = 32512. (The other
//     way, |a| * sign(a) w, is wrong for w = -128.)
#pragma once

#include "kernels/cpu/gemm_avx2_registers.h"

namespace trireme::cpu {
namespace {

constexpr int kQuads = kBlock / 4;    // groups of four elements in a block
constexpr int kPrefetchBytes = 1024;  // ahead, while a single token streams the weights

// How many of `count` products add up safely in 16 bits.
static constexpr int DepthOf(const BlockFormat& format, int count) {
  const int safe = format.signed_codes ? 1 : 32767 / (254 * format.max_code);
  return safe < count ? safe : count;
}

// Four activations, in every lane.
TRIREME_INLINE __m256i BroadcastQuad(const int8_t* q) {
  int32_t quad;
  __builtin_memcpy(&quad, q, sizeof(quad));
  return _mm256_set1_epi32(quad);
}

// Codes of eight rows, quad q, where they lie: codes points at the eight rows' first quad.
template <DType kType>
TRIREME_INLINE __m256i LoadCodes(const uint8_t* codes, int q) {
  if constexpr (BlockFormatOf(kType).code_bits == 8) {
    return Load(codes + q * kQuadBytes);
  } else {
    const __m256i both = Load(codes + q % 4 * kQuadBytes);
    return _mm256_and_si256(q < 4 ? both : _mm256_srli_epi16(both, 4), _mm256_set1_epi8(15));
  }
}

// Eight rows' dot products over quads [kFirst, kFirst + kCount). w(q): unsigned codes or
// magnitudes; a(q): activations.
template <DType kType, int kFirst, int kCount, typename W, typename A>
TRIREME_INLINE __m256i Dot(const uint8_t* codes, W w, A a) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  constexpr int kDepth = DepthOf(kFormat, kCount);
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i total;
#pragma GCC unroll 8
  for (int i = 0; i < kCount; i += kDepth) {
    __m256i sum16;
#pragma GCC unroll 8
    for (int j = 0; j < kDepth; ++j) {
      const int q = kFirst + i + j;
      __m256i x = a(q);
      if constexpr (kFormat.signed_codes) x = _mm256_sign_epi8(x, Load(codes + q * kQuadBytes));
      const __m256i product = _mm256_maddubs_epi16(w(q), x);
      sum16 = j == 0 ? product : _mm256_add_epi16(sum16, product);
    }
    const __m256i sum32 = _mm256_madd_epi16(sum16, ones);
    total = i == 0 ? sum32 : _mm256_add_epi32(total, sum32);
  }
  return total;
}

template <DType kType>
TRIREME_INLINE __m256 LoadScales(const uint8_t* array, int r) {
  if constexpr (BlockFormatOf(kType).f32_scales) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(array) + r * kLanes);
  } else {
    return _mm256_cvtph_ps(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(array + r * kLanes * 2)));
  }
}

// acc + scale * (dot - zero point): the share of one group of a block.
template <DType kType, int kGroup>
TRIREME_INLINE __m256 AddScaled(__m256i dot, __m256 scale, const ActivationBlock& x, __m256 acc) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  if constexpr (kFormat.zero_point != 0) {
    // One multiplication counts both halves' sums, or the one that is the group.
    constexpr int32_t kFirst = kFormat.groups == 1 || kGroup == 0 ? kFormat.zero_point : 0;
    constexpr int32_t kSecond = kFormat.groups == 1 || kGroup == 1 ? kFormat.zero_point : 0;
    int32_t sums;
    __builtin_memcpy(&sums, x.sum, sizeof(sums));
    dot = _mm256_sub_epi32(
        dot, _mm256_madd_epi16(_mm256_set1_epi32(sums), _mm256_set1_epi32(kFirst | kSecond << 16)));
  }
  // The weights' scale first, as the AVX-512 tiles multiply: both give the same bits.
  return _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(dot), scale), _mm256_set1_ps(x.scale),
                         acc);
}

// acc + the share of one block of one token. Register r of the panel.
template <DType kType, typename W, typename A>
TRIREME_INLINE __m256 AddBlock(const uint8_t* block, const uint8_t* codes, int r,
                               const ActivationBlock& x, W w, A a, __m256 acc) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  constexpr int kCount = kQuads / kFormat.groups;
  const uint8_t* scales = block + kFormat.scales_offset();
  acc =
      AddScaled<kType, 0>(Dot<kType, 0, kCount>(codes, w, a), LoadScales<kType>(scales, r), x, acc);
  if constexpr (kFormat.groups == 2) {
    acc = AddScaled<kType, 1>(Dot<kType, kCount, kCount>(codes, w, a),
                              LoadScales<kType>(scales + kFormat.scale_bytes(), r), x, acc);
  }
  if constexpr (kFormat.has_min) {
    acc = _mm256_fmadd_ps(LoadScales<kType>(block + kFormat.mins_offset(), r),
                          _mm256_set1_ps(x.scaled_sum), acc);
  }
  return acc;
}

template <DType kType>
TRIREME_INLINE const uint8_t* CodesOf(const uint8_t* block, int r) {
  return block + r / 2 * BlockFormatOf(kType).half_bytes() + r % 2 * 32;
}

// One token by the whole panel: the activations of a block stay in registers, the weights stream
// by.
template <DType kType>
[[gnu::noinline]] void BlockRow(const Panel& panel, const uint8_t* activation,
                                const TileOutput& out) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  const auto* x = reinterpret_cast<const ActivationBlock*>(activation);
  __m256 acc[1][kRegisters] = {};
  const uint8_t* block = panel.data;
  for (int64_t b = 0; b < panel.cols / kBlock; ++b, block += kFormat.block_bytes()) {
    for (int i = 0; i < kFormat.block_bytes(); i += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(block + kPrefetchBytes + i), _MM_HINT_T0);
    }
    __m256i a[kQuads];
#pragma GCC unroll 8
    for (int q = 0; q < kQuads; ++q) a[q] = BroadcastQuad(x[b].q + 4 * q);
#pragma GCC unroll 4
    for (int r = 0; r < kRegisters; ++r) {
      const uint8_t* codes = CodesOf<kType>(block, r);
      const auto w = [&](int q) TRIREME_INLINE_LAMBDA {
        const __m256i c = LoadCodes<kType>(codes, q);
        return kFormat.signed_codes ? _mm256_abs_epi8(c) : c;
      };
      acc[0][r] = AddBlock<kType>(
          block, codes, r, x[b], w, [&](int q) TRIREME_INLINE_LAMBDA { return a[q]; }, acc[0][r]);
    }
  }
  Store(out, 0, acc);
}

// The dot products of M tokens and the 16 rows of a half over quads [kFirst, kFirst + kCount), in
// the tile's registers; the codes of a quad are loaded once for all tokens, a token's quad once for
// both registers of rows.
template <DType kType, int kFirst, int kCount, int M>
TRIREME_INLINE void TileDot(const uint8_t* codes, const ActivationBlock* const (&x)[M],
                            __m256i (&total)[M][2]) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  constexpr int kDepth = DepthOf(kFormat, kCount);
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum[M][2];  // 16 bits wide
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
    // Quads q and q + 4 of 4-bit codes lie in one register, and follow each other here.
    const int q = kFirst + (kFormat.code_bits == 4 ? i / 2 + i % 2 * 4 : i);
    const __m256i w[2] = {LoadCodes<kType>(codes, q), LoadCodes<kType>(codes + 32, q)};
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const __m256i a = BroadcastQuad(x[m]->q + 4 * q);
#pragma GCC unroll 2
      for (int c = 0; c < 2; ++c) {
        const __m256i product =
            kFormat.signed_codes
                ? _mm256_maddubs_epi16(_mm256_abs_epi8(w[c]), _mm256_sign_epi8(a, w[c]))
                : _mm256_maddubs_epi16(w[c], a);
        sum[m][c] = i % kDepth == 0 ? product : _mm256_add_epi16(sum[m][c], product);
        // Here and now: GCC would keep the products, in memory, to add them up as a tree.
        asm("" : "+x"(sum[m][c]));
        if (i % kDepth == kDepth - 1) {
          const __m256i wide = _mm256_madd_epi16(sum[m][c], ones);
          total[m][c] = i < kDepth ? wide : _mm256_add_epi32(total[m][c], wide);
          asm("" : "+x"(total[m][c]));
        }
      }
    }
  }
}

// M tokens by the 16 rows of a half.
template <DType kType, int M>
[[gnu::noinline]] void BlockTile(const Panel& panel, Ahead* ahead_of_all,
                                 const uint8_t* activations, int64_t stride, int half,
                                 const TileOutput& out) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  constexpr int kCount = kQuads / kFormat.groups;
  __m256 acc[M][2] = {};
  const ActivationBlock* x[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    x[m] = reinterpret_cast<const ActivationBlock*>(activations + m * stride);
  }
  const uint8_t* block = panel.data;
  Ahead ahead = *ahead_of_all;
  for (int64_t b = 0; b < panel.cols / kBlock; ++b, block += kFormat.block_bytes()) {
    ahead.Step();
    const uint8_t* codes = block + half * kFormat.half_bytes();
    const auto add_group = [&]<int kGroup>() TRIREME_INLINE_LAMBDA {
      __m256i dot[M][2];
      TileDot<kType, kGroup * kCount, kCount>(codes, x, dot);
#pragma GCC unroll 2
      for (int c = 0; c < 2; ++c) {
        const __m256 scale = LoadScales<kType>(
            block + kFormat.scales_offset() + kGroup * kFormat.scale_bytes(), 2 * half + c);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
          acc[m][c] = AddScaled<kType, kGroup>(dot[m][c], scale, *x[m], acc[m][c]);
        }
      }
    };
    add_group.template operator()<0>();
    if constexpr (kFormat.groups == 2) add_group.template operator()<1>();
    if constexpr (kFormat.has_min) {
#pragma GCC unroll 2
      for (int c = 0; c < 2; ++c) {
        const __m256 min = LoadScales<kType>(block + kFormat.mins_offset(), 2 * half + c);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
          acc[m][c] = _mm256_fmadd_ps(min, _mm256_set1_ps(x[m]->scaled_sum), acc[m][c]);
        }
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) ++x[m];
  }
  *ahead_of_all = ahead;
  Store(out, 2 * half, acc);
}

}  // namespace
}  // namespace trireme::cpu
