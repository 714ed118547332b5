// The product's AVX-512 kernels over SIMDe's emulation of the intrinsics in AVX2.
#include <immintrin.h>
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

// What this SIMDe lacks.
static inline __m512 EmulatedCvtphPs(__m256i halves) {
  const __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
  const __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));
  return _mm512_castpd_ps(
      _mm512_insertf64x4(_mm512_castpd256_pd512(_mm256_castps_pd(low)), _mm256_castps_pd(high), 1));
}
static inline __m256i EmulatedCvtpsPh(__m512 x) {
  const __m128i low = _mm256_cvtps_ph(_mm512_castps512_ps256(x), 0);
  const __m256d high = _mm512_extractf64x4_pd(_mm512_castps_pd(x), 1);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low),
                                 _mm256_cvtps_ph(_mm256_castpd_ps(high), 0), 1);
}
static inline __m512i EmulatedCvtepu16Epi32(__m256i words) {
  const __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(words));
  const __m256i high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(words, 1));
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
static inline __m256i EmulatedCvtepi32Epi16(__m512i x) {
  alignas(64) uint32_t wide[16];
  alignas(32) uint16_t narrow[16];
  _mm512_store_si512(wide, x);
  for (int i = 0; i < 16; ++i) narrow[i] = static_cast<uint16_t>(wide[i]);
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(narrow));
}
#undef _mm512_cvtepi32_epi16
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtph_ps
#undef _mm512_cvtps_ph
#define _mm512_cvtepi32_epi16(x) EmulatedCvtepi32Epi16(x)
#define _mm512_cvtepu16_epi32(x) EmulatedCvtepu16Epi32(x)
#define _mm512_cvtph_ps(x) EmulatedCvtphPs(x)
#define _mm512_cvtps_ph(x, rounding) EmulatedCvtpsPh(x)

#define FillRowsAvx512 FillRowsAvx512Emulated
#define FillAttentionAvx512 FillAttentionAvx512Emulated
#include "kernels/cpu/attention_avx512.cc"
#include "kernels/cpu/rows_avx512.cc"
