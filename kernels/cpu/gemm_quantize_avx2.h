// Activation quantisation with AVX2, for the AVX2 and AVX-512 tables. Bitwise the same as the
// portable one: it is element-wise but for an integer maximum and integer sums. Included only by
// files compiled for these sets.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/gemm_layout.h"

namespace trireme::cpu {
namespace {

inline int16_t SumOf8(__m256i v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(1, 0, 3, 2)));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(2, 3, 0, 1)));
  return static_cast<int16_t>(_mm_cvtsi128_si32(s));
}

// Of 32 floats, the largest magnitude as bits. Compared as integers, NaN is the largest of all.
inline uint32_t MaxMagnitudeBits(const __m256* x) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i max = _mm256_and_si256(_mm256_castps_si256(x[0]), magnitude);
  for (int i = 1; i < 4; ++i) {
    max = _mm256_max_epi32(max, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude));
  }
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(1, 0, 3, 2)));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(2, 3, 0, 1)));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(m));
}

inline void QuantizeBlock(const float* in, ActivationBlock* out) {
  __m256 x[4];
  for (int i = 0; i < 4; ++i) x[i] = _mm256_loadu_ps(in + 8 * i);
  const uint32_t max_bits = MaxMagnitudeBits(x);
  const float scale = __builtin_bit_cast(float, max_bits) / 127.0f;
  if (max_bits >= 0x7f800000u || max_bits < kSmallestMaxBits) {
    const bool poison = max_bits >= 0x7f800000u;
    *out = {};
    out->scale = poison ? scale : 0.0f;
    out->scaled_sum = poison ? scale - scale : 0.0f;
    return;
  }
  const __m256 inverse = _mm256_set1_ps(1.0f / scale);
  __m256i q[4];
  for (int i = 0; i < 4; ++i) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], inverse));
  // The packs work within 128-bit lanes; the permutation puts the 4-byte groups back in order.
  const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]),  //
                                            _mm256_packs_epi32(q[2], q[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->q),
                      _mm256_permutevar8x32_epi32(packed, order));
  out->scale = scale;
  out->sum[0] = SumOf8(_mm256_add_epi32(q[0], q[1]));
  out->sum[1] = SumOf8(_mm256_add_epi32(q[2], q[3]));
  out->scaled_sum = scale * static_cast<float>(out->sum[0] + out->sum[1]);
}

void QuantizeActivation(const float* x, int64_t cols, ActivationBlock* out) {
  for (int64_t b = 0; b < cols / kBlock; ++b) QuantizeBlock(x + b * kBlock, out + b);
}

}  // namespace
}  // namespace trireme::cpu
