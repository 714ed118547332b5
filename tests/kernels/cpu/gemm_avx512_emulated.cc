// The product's gemm_avx512.cc a second time, its intrinsics computed by SIMDe in AVX2: shows on
// CPUs without AVX-512 that the code is right.
#include <immintrin.h>
#define SIMDE_ENABLE_NATIVE_ALIASES
#define SIMDE_NO_INLINE  // inlined into every kernel, it takes the compiler minutes
#include <simde/x86/avx512.h>

// Not in SIMDe 0.7.4.
static inline simde__m512 EmulatedCvtphPs(__m256i halves) {
  simde__m512_private out;
  out.m256[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
  out.m256[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));
  return simde__m512_from_private(out);
}
static inline simde__m512 EmulatedCvtepi32Ps(simde__m512i integers) {
  const simde__m512i_private in = simde__m512i_to_private(integers);
  simde__m512_private out;
  for (int i = 0; i < 2; ++i) out.m256[i] = _mm256_cvtepi32_ps(in.m256i[i]);
  return simde__m512_from_private(out);
}
#define _mm512_cvtph_ps EmulatedCvtphPs
#define _mm512_cvtepi32_ps EmulatedCvtepi32Ps

#define FillGemmAvx512 FillGemmAvx512Emulated
#include "kernels/cpu/gemm_avx512.cc"
