// Activation quantisation with AVX2, for the AVX2 and AVX-512 tables. Bitwise the same as the
// portable one: it is element-wise but for an integer maximum and integer sums. Included only by
// files compiled for these sets.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/gemm_layout.h"

namespace trireme::cpu {
namespace {

constexpr uint32_t kInfinityBits = 0x7f800000u;

// Of 32 floats, the largest magnitudes as bits, in four parts. Compared as integers, NaN is the
// largest of all.
inline __m128i MaxMagnitudes(const __m256* x) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i max = _mm256_and_si256(_mm256_castps_si256(x[0]), magnitude);
  for (int i = 1; i < 4; ++i) {
    max = _mm256_max_epi32(max, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude));
  }
  return _mm_max_epi32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
}

// The codes, in the order of the elements.
inline __m256i Codes(const __m256* x, float inverse_scale) {
  const __m256 inverse = _mm256_set1_ps(inverse_scale);
  __m256i q[4];
  for (int i = 0; i < 4; ++i) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], inverse));
  // The packs work within 128-bit lanes; the permutation puts the 4-byte groups back in order.
  const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]),  //
                                            _mm256_packs_epi32(q[2], q[3]));
  return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// Sums of four codes each: of the first half of the block in the lower 128 bits.
inline __m256i SumsOfFour(__m256i codes) {
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), codes);
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

inline void LoadBlock(const float* in, __m256* x) {
  for (int i = 0; i < 4; ++i) x[i] = _mm256_loadu_ps(in + 8 * i);
}

inline void QuantizeBlock(const float* in, ActivationBlock* out) {
  __m256 x[4];
  LoadBlock(in, x);
  const __m128i max4 = MaxMagnitudes(x);
  const __m128i max2 = _mm_max_epi32(max4, _mm_shuffle_epi32(max4, _MM_SHUFFLE(1, 0, 3, 2)));
  const auto max_bits = static_cast<uint32_t>(
      _mm_cvtsi128_si32(_mm_max_epi32(max2, _mm_shuffle_epi32(max2, _MM_SHUFFLE(2, 3, 0, 1)))));
  const float scale = __builtin_bit_cast(float, max_bits) / 127.0f;
  if (max_bits >= kInfinityBits || max_bits < kSmallestMaxBits) {
    const bool poison = max_bits >= kInfinityBits;
    *out = {};
    out->scale = poison ? scale : 0.0f;
    out->scaled_sum = poison ? scale - scale : 0.0f;
    return;
  }
  const __m256i codes = Codes(x, 1.0f / scale);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->q), codes);
  alignas(32) int32_t sums[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(sums), SumsOfFour(codes));
  out->scale = scale;
  for (int h = 0; h < 2; ++h) {
    const int32_t* four = sums + 4 * h;
    out->sum[h] = static_cast<int16_t>((four[0] + four[1]) + (four[2] + four[3]));
  }
  out->scaled_sum = scale * static_cast<float>(out->sum[0] + out->sum[1]);
}

// Four blocks at a time share what is not element by element: twice as fast. False, with nothing
// written, when one of them is no ordinary block.
inline bool QuantizeFour(const float* in, ActivationBlock* out) {
  __m256 x[4][4];
  __m128i max[4];
  for (int b = 0; b < 4; ++b) {
    LoadBlock(in + b * kBlock, x[b]);
    max[b] = MaxMagnitudes(x[b]);
  }
  // Two steps transpose and reduce at once.
  const auto reduce2 = [](__m128i a, __m128i b) {
    return _mm_max_epi32(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
  };
  const __m128i low = reduce2(max[0], max[1]), high = reduce2(max[2], max[3]);
  const __m128i max_bits =
      _mm_max_epi32(_mm_unpacklo_epi64(low, high), _mm_unpackhi_epi64(low, high));
  const __m128i special = _mm_or_si128(_mm_cmpgt_epi32(max_bits, _mm_set1_epi32(kInfinityBits - 1)),
                                       _mm_cmpgt_epi32(_mm_set1_epi32(kSmallestMaxBits), max_bits));
  if (_mm_movemask_epi8(special) != 0) return false;
  const __m128 scales = _mm_div_ps(_mm_castsi128_ps(max_bits), _mm_set1_ps(127.0f));
  alignas(16) float inverses[4];
  _mm_store_ps(inverses, _mm_div_ps(_mm_set1_ps(1.0f), scales));
  __m256i sums[4];
  for (int b = 0; b < 4; ++b) {
    const __m256i codes = Codes(x[b], inverses[b]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out[b].q), codes);
    sums[b] = SumsOfFour(codes);
  }
  const __m256i halves = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]),  //
                                           _mm256_hadd_epi32(sums[2], sums[3]));
  const __m128i first = _mm256_castsi256_si128(halves);
  const __m128i second = _mm256_extracti128_si256(halves, 1);
  const __m128 scaled_sums = _mm_mul_ps(scales, _mm_cvtepi32_ps(_mm_add_epi32(first, second)));
  alignas(16) float scale[4], scaled_sum[4];
  alignas(16) int32_t sum[4];  // as int16_t[2]
  _mm_store_ps(scale, scales);
  _mm_store_ps(scaled_sum, scaled_sums);
  _mm_store_si128(reinterpret_cast<__m128i*>(sum),
                  _mm_blend_epi16(first, _mm_slli_epi32(second, 16), 0xaa));
  for (int b = 0; b < 4; ++b) {
    out[b].scale = scale[b];
    out[b].scaled_sum = scaled_sum[b];
    __builtin_memcpy(out[b].sum, &sum[b], sizeof(sum[b]));
  }
  return true;
}

void QuantizeActivation(const float* x, int64_t cols, ActivationBlock* out) {
  const int64_t num_blocks = cols / kBlock;
  for (int64_t b = 0; b < num_blocks;) {
    if (b + 4 <= num_blocks && QuantizeFour(x + b * kBlock, out + b)) {
      b += 4;
      continue;
    }
    QuantizeBlock(x + b * kBlock, out + b);
    ++b;
  }
}

}  // namespace
}  // namespace trireme::cpu
