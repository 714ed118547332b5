// Matrix products with AVX-512 and VNNI. A tile is M tokens by one whole panel (two registers of 16
// rows).
//
// vpdpbusd adds four products of unsigned codes and signed activations to 32 bits, exactly. Signed
// codes are made unsigned by adding 128 (flipping the top bit), which counts as a zero point; a
// zero point z costs nothing: the sum starts at -z * sum(a) instead of 0.
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
#include "kernels/cpu/gemm_layout.h"
#include "kernels/cpu/gemm_quantize_avx2.h"
#include "kernels/cpu/gemm_tiles.h"
#include "kernels/cpu/isa.h"

namespace trireme::cpu {
namespace {

constexpr int kLanes = 16;          // rows per register: a half of the panel
constexpr int kQuads = kBlock / 4;  // groups of four elements in a block

TRIREME_INLINE __m512i Load(const uint8_t* p) { return _mm512_loadu_si512(p); }

template <int M>
TRIREME_INLINE void Store(const TileOutput& out, const __m512 (&acc)[M][2]) {
  alignas(64) float sums[M][kPanelRows];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    _mm512_store_ps(sums[m], acc[m][0]);
    _mm512_store_ps(sums[m] + kLanes, acc[m][1]);
  }
  StoreTile<kPanelRows>(out, M, 0, sums[0]);
}

template <DType kType>
TRIREME_INLINE __m512 LoadScales(const uint8_t* array, int half) {
  if constexpr (BlockFormatOf(kType).f32_scales) {
    return _mm512_loadu_ps(reinterpret_cast<const float*>(array) + half * kLanes);
  } else {
    return _mm512_cvtph_ps(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(array + half * kLanes * 2)));
  }
}

// dot[m] += codes * quad `q` of token m's activations, for both halves.
template <int M>
TRIREME_INLINE void AddQuad(const __m512i* codes, const ActivationBlock* const* x, int q,
                            __m512i (*dot)[2]) {
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    int32_t quad;
    __builtin_memcpy(&quad, x[m]->q + 4 * q, sizeof(quad));
    const __m512i a = _mm512_set1_epi32(quad);
    dot[m][0] = _mm512_dpbusd_epi32(dot[m][0], codes[0], a);
    dot[m][1] = _mm512_dpbusd_epi32(dot[m][1], codes[1], a);
  }
}

// The quads of one group of elements that share a scale; 4-bit types have one group.
template <DType kType, int M>
TRIREME_INLINE void DotGroup(const uint8_t* block, const ActivationBlock* const* x, int group,
                             __m512i (*dot)[2]) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  constexpr int kCount = kQuads / kFormat.groups;
  if constexpr (kFormat.code_bits == 4) {
    const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int q = 0; q < kQuads / 2; ++q) {
      __m512i codes[2], high[2];
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const __m512i both = Load(block + h * kFormat.half_bytes() + q * kQuadBytes);
        codes[h] = _mm512_and_si512(both, low);
        high[h] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
      }
      AddQuad<M>(codes, x, q, dot);
      AddQuad<M>(high, x, q + kQuads / 2, dot);
    }
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) {
      const int q = group * kCount + i;
      __m512i codes[2];
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        codes[h] = Load(block + h * kFormat.half_bytes() + q * kQuadBytes);
        if constexpr (kFormat.signed_codes) {
          codes[h] = _mm512_xor_si512(codes[h], _mm512_set1_epi8(-128));
        }
      }
      AddQuad<M>(codes, x, q, dot);
    }
  }
}

template <DType kType, int M>
TRIREME_INLINE void AddBlock(const uint8_t* block, const ActivationBlock* const* x,
                             __m512 (*acc)[2]) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  constexpr int kZero = kFormat.signed_codes ? 128 : kFormat.zero_point;
#pragma GCC unroll 2
  for (int g = 0; g < kFormat.groups; ++g) {
    __m512i dot[M][2];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const int32_t sum = kFormat.groups == 2 ? x[m]->sum[g] : x[m]->sum[0] + x[m]->sum[1];
      dot[m][0] = dot[m][1] = _mm512_set1_epi32(-kZero * sum);
    }
    DotGroup<kType, M>(block, x, g, dot);
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m512 scale =
          LoadScales<kType>(block + kFormat.scales_offset() + g * kFormat.scale_bytes(), h);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        acc[m][h] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[m][h]),
                                    _mm512_mul_ps(scale, _mm512_set1_ps(x[m]->scale)), acc[m][h]);
      }
    }
  }
  if constexpr (kFormat.has_min) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m512 min = LoadScales<kType>(block + kFormat.mins_offset(), h);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        acc[m][h] = _mm512_fmadd_ps(min, _mm512_set1_ps(x[m]->scaled_sum), acc[m][h]);
      }
    }
  }
}

template <DType kType, int M>
[[gnu::noinline]] void BlockTile(const Panel& panel, Ahead* ahead_of_all,
                                 const uint8_t* activations, int64_t stride,
                                 const TileOutput& out) {
  constexpr int kBytes = BlockFormatOf(kType).block_bytes();
  __m512 acc[M][2];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) acc[m][0] = acc[m][1] = _mm512_setzero_ps();
  Ahead ahead = *ahead_of_all;
  const uint8_t* block = panel.data;
  for (int64_t b = 0; b < panel.cols / kBlock; ++b, block += kBytes) {
    ahead.Step();
    const ActivationBlock* x[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      x[m] = reinterpret_cast<const ActivationBlock*>(activations + m * stride) + b;
    }
    AddBlock<kType, M>(block, x, acc);
  }
  *ahead_of_all = ahead;
  Store(out, acc);
}

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
    // A quantised tile has integer sums beside the others: six tokens fill the registers. Plain
    // ones have room for eight, and then fewer loads a product.
    constexpr int kTokens = IsQuantized(kType) ? 6 : 8;
    Ahead ahead = Ahead::Of<kType>(panel, (num_tokens + kTokens - 1) / kTokens);
    ForEachTile<kTokens>(num_tokens, [&]<int M>(int64_t first) {
      const uint8_t* x = activations + first * stride;
      if constexpr (IsQuantized(kType)) {
        BlockTile<kType, M>(panel, &ahead, x, stride, out.At(first));
      } else {
        PlainTile<kType, M>(panel, &ahead, x, stride, out.At(first));
      }
    });
  }
};

}  // namespace

void FillGemmAvx512(Kernels* table) {
  table->quantize_activation = QuantizeActivation;
  table->matmul = MatMul<Avx512>;
}

}  // namespace trireme::cpu
