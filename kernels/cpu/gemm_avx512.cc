// Matrix products with AVX-512 and VNNI. A tile is M tokens by one whole panel (two registers of 16
// rows).
//
// BF16 weights are widened and multiplied by F32 activations. vdpbf16ps would need the activations
// in BF16. Rounding them moves the logits of the golden models by 3e-3 to 9e-3, where
// Golden.LogitsEqualTransformers allows 2e-3; splitting them into two BF16 terms (1e-5) halves its
// rate, which is then that of FMA.
//
// Whatever the tile, each output runs through K in order with the same operations, so results do
// not depend on M.
#include <immintrin.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm_avx512_blocks.h"
#include "kernels/cpu/gemm_avx512_registers.h"
#include "kernels/cpu/gemm_layout.h"
#include "kernels/cpu/gemm_quantize_avx2.h"
#include "kernels/cpu/gemm_tiles.h"
#include "kernels/cpu/isa.h"

namespace trireme::cpu {
namespace {

template <DType kType>
TRIREME_INLINE __m512 LoadPlain(const uint8_t* panel, int64_t k, int half) {
  if constexpr (kType == DType::kF32) {
    return _mm512_loadu_ps(reinterpret_cast<const float*>(panel) + k * kPanelRows + half * kLanes);
  } else {
    const uint8_t* p = panel + (k * kPanelRows + half * kLanes) * 2;
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
}

// BF16 elements (k, k + 1), k even, of the sixteen rows of a half.
TRIREME_INLINE __m512i LoadPairs(const uint8_t* panel, int64_t k, int half) {
  return Load(panel + (k / 2 * kPanelRows + half * kLanes) * 4);
}
TRIREME_INLINE __m512 Even(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}
TRIREME_INLINE __m512 Odd(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
}

template <int M>
TRIREME_INLINE void AddElement(const __m512* w, const uint8_t* activations, int64_t stride,
                               int64_t k, __m512 (*acc)[2]) {
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    const __m512 x = _mm512_set1_ps(reinterpret_cast<const float*>(activations + m * stride)[k]);
    acc[m][0] = _mm512_fmadd_ps(w[0], x, acc[m][0]);
    acc[m][1] = _mm512_fmadd_ps(w[1], x, acc[m][1]);
  }
}

template <DType kType, int M>
[[gnu::noinline]] void PlainTile(const Panel& panel, Ahead* ahead_of_all,
                                 const uint8_t* activations, int64_t stride,
                                 const TileOutput& out) {
  __m512 acc[M][2];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) acc[m][0] = acc[m][1] = _mm512_setzero_ps();
  PrefetchOutput<M>(out);
  Ahead ahead = *ahead_of_all;
  const uint8_t* data = panel.data;
  for (int64_t k = 0; k < panel.cols;) {
    ahead.Step();
    const int64_t end = panel.cols - k < kPlainStep ? panel.cols : k + kPlainStep;
    if constexpr (kType == DType::kBF16) {
      for (; k + 1 < end; k += 2) {
        const __m512i pairs[2] = {LoadPairs(data, k, 0), LoadPairs(data, k, 1)};
        const __m512 even[2] = {Even(pairs[0]), Even(pairs[1])};
        AddElement<M>(even, activations, stride, k, acc);
        const __m512 odd[2] = {Odd(pairs[0]), Odd(pairs[1])};
        AddElement<M>(odd, activations, stride, k + 1, acc);
      }
      if (k < end) {  // the last of an odd K
        const __m512 even[2] = {Even(LoadPairs(data, k, 0)), Even(LoadPairs(data, k, 1))};
        AddElement<M>(even, activations, stride, k++, acc);
      }
    } else {
      for (; k < end; ++k) {
        const __m512 w[2] = {LoadPlain<kType>(data, k, 0), LoadPlain<kType>(data, k, 1)};
        AddElement<M>(w, activations, stride, k, acc);
      }
    }
  }
  *ahead_of_all = ahead;
  Store(out, acc);
}

struct Avx512 {
  template <DType kType>
  static void Multiply(const Panel& panel, const uint8_t* activations, int64_t stride,
                       int64_t num_tokens, const TileOutput& out) {
    if constexpr (IsQuantized(kType)) {
      MultiplyBlocks<kType>(panel, activations, stride, num_tokens, out);
    } else {
      // Eight tokens: fewer loads a product than six.
      constexpr int kTokens = 8;
      Ahead ahead = Ahead::Of<kType>(panel, (num_tokens + kTokens - 1) / kTokens);
      ForEachTile<kTokens>(num_tokens, [&]<int M>(int64_t first) {
        PlainTile<kType, M>(panel, &ahead, activations + first * stride, stride, out.At(first));
      });
    }
  }
};

}  // namespace

void FillGemmAvx512(Kernels* table) {
  table->quantize_activation = QuantizeActivation;
  table->matmul = MatMul<Avx512>;
}

}  // namespace trireme::cpu
