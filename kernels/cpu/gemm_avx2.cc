// Matrix products with AVX2, FMA and F16C.
//
// Quantised weights are multiplied as integers. vpmaddubsw multiplies unsigned by signed bytes and
// adds neighbours into 16 bits, with saturation; the following bounds show that nothing ever
// saturates (|a| <= 127, see ActivationBlock):
//   unsigned codes c: a pair is at most 2 * 127 * max_code, so 32767 / (254 * max_code) of them add
//   up safely in 16
//     bits: 8 for 4-bit, 4 for 5-bit, 2 for 6-bit codes; only then vpmaddwd widens to 32 bits.
//   signed codes w (int8, a file may hold -128): |w| * sign(w) a. |w| <= 128 fits an unsigned byte,
//   and the negation of
//     a cannot overflow; a pair is at most 2 * 128 * 127 = 32512. (The other way, |a| * sign(a) w,
//     is wrong for w = -128.)
//
// A tile is M tokens by 8 * C rows. Whatever the tile, each output runs through the blocks of K in
// order with the same operations, so results do not depend on M.
#include <immintrin.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm_layout.h"
#include "kernels/cpu/gemm_quantize_avx2.h"
#include "kernels/cpu/gemm_tiles.h"
#include "kernels/cpu/isa.h"

namespace trireme::cpu {
namespace {

constexpr int kLanes = 8;                        // rows per register
constexpr int kRegisters = kPanelRows / kLanes;  // registers per panel
constexpr int kQuads = kBlock / 4;               // groups of four elements in a block
constexpr int kPrefetchBytes = 1024;             // ahead, while a single token streams the weights

TRIREME_INLINE __m256i Load(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// Results of the eight rows of register r for one token.
TRIREME_INLINE void Store(const TileOutput& out, int token, int r, __m256 value) {
  const int first = r * kLanes;
  if (first + kLanes <= out.columns) {
    if (out.bias != nullptr) value = _mm256_add_ps(value, _mm256_loadu_ps(out.bias + first));
    _mm256_storeu_ps(out.y + token * out.stride + first, value);
    return;
  }
  float values[kLanes];
  _mm256_storeu_ps(values, value);
  StorePartial(out, token, first, kLanes, values);
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
  constexpr int kSafe = kFormat.signed_codes ? 1 : 32767 / (254 * kFormat.max_code);
  constexpr int kDepth = kSafe < kCount ? kSafe : kCount;
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

// acc + the share of one block of one token. Register r of the panel.
template <DType kType, typename W, typename A>
TRIREME_INLINE __m256 AddBlock(const uint8_t* block, const uint8_t* codes, int r,
                               const ActivationBlock& x, W w, A a, __m256 acc) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  constexpr int kCount = kQuads / kFormat.groups;
  const uint8_t* scales = block + kFormat.scales_offset();
  const auto add_group = [&](__m256i dot, int group, int32_t sum) TRIREME_INLINE_LAMBDA {
    if constexpr (kFormat.zero_point != 0) {
      dot = _mm256_sub_epi32(dot, _mm256_set1_epi32(kFormat.zero_point * sum));
    }
    const __m256 scale = LoadScales<kType>(scales + group * kFormat.scale_bytes(), r);
    acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(scale, _mm256_set1_ps(x.scale)),
                          acc);
  };
  if constexpr (kFormat.groups == 2) {
    add_group(Dot<kType, 0, kCount>(codes, w, a), 0, x.sum[0]);
    add_group(Dot<kType, kCount, kCount>(codes, w, a), 1, x.sum[1]);
  } else {
    add_group(Dot<kType, 0, kCount>(codes, w, a), 0, x.sum[0] + x.sum[1]);
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
[[gnu::noinline]] void BlockRow(const uint8_t* panel, int64_t cols, const uint8_t* activation,
                                const TileOutput& out) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  const auto* x = reinterpret_cast<const ActivationBlock*>(activation);
  __m256 acc[kRegisters] = {};
  for (int64_t b = 0; b < cols / kBlock; ++b, panel += kFormat.block_bytes()) {
    for (int i = 0; i < kFormat.block_bytes(); i += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(panel + kPrefetchBytes + i), _MM_HINT_T0);
    }
    __m256i a[kQuads];
#pragma GCC unroll 8
    for (int q = 0; q < kQuads; ++q) a[q] = BroadcastQuad(x[b].q + 4 * q);
#pragma GCC unroll 4
    for (int r = 0; r < kRegisters; ++r) {
      const uint8_t* codes = CodesOf<kType>(panel, r);
      const auto w = [&](int q) TRIREME_INLINE_LAMBDA {
        const __m256i c = LoadCodes<kType>(codes, q);
        return kFormat.signed_codes ? _mm256_abs_epi8(c) : c;
      };
      acc[r] = AddBlock<kType>(
          panel, codes, r, x[b], w, [&](int q) TRIREME_INLINE_LAMBDA { return a[q]; }, acc[r]);
    }
  }
  for (int r = 0; r < kRegisters; ++r) Store(out, 0, r, acc[r]);
}

// M tokens by one register: the weights of a block stay in registers, the tokens pass.
template <DType kType, int M>
[[gnu::noinline]] void BlockTile(const uint8_t* panel, int64_t cols, const uint8_t* activations,
                                 int64_t stride, int r, const TileOutput& out) {
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  __m256 acc[M] = {};
  for (int64_t b = 0; b < cols / kBlock; ++b, panel += kFormat.block_bytes()) {
    const uint8_t* codes = CodesOf<kType>(panel, r);
    __m256i c[kQuads];
#pragma GCC unroll 8
    for (int q = 0; q < kQuads; ++q) {
      c[q] = LoadCodes<kType>(codes, q);
      if constexpr (kFormat.signed_codes) c[q] = _mm256_abs_epi8(c[q]);
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const auto& x = reinterpret_cast<const ActivationBlock*>(activations + m * stride)[b];
      acc[m] = AddBlock<kType>(
          panel, codes, r, x, [&](int q) TRIREME_INLINE_LAMBDA { return c[q]; },
          [&](int q) TRIREME_INLINE_LAMBDA { return BroadcastQuad(x.q + 4 * q); }, acc[m]);
    }
  }
  for (int m = 0; m < M; ++m) Store(out, m, r, acc[m]);
}

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
TRIREME_INLINE __m256 Odd(__m256i pairs) {
  return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-65536)));
}

// M tokens by C registers, starting at register r.
template <DType kType, int M, int C>
[[gnu::noinline]] void PlainTile(const uint8_t* panel, int64_t cols, const uint8_t* activations,
                                 int64_t stride, int r, const TileOutput& out) {
  __m256 acc[M][C] = {};
  const auto add = [&](int64_t k, const __m256* w) TRIREME_INLINE_LAMBDA {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const __m256 x =
          _mm256_broadcast_ss(reinterpret_cast<const float*>(activations + m * stride) + k);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) acc[m][c] = _mm256_fmadd_ps(w[c], x, acc[m][c]);
    }
  };
  int64_t k = 0;
  __m256 w[C];
  if constexpr (kType == DType::kBF16) {
    for (; k + 1 < cols; k += 2) {
      __m256i pairs[C];
      for (int c = 0; c < C; ++c) pairs[c] = LoadPairs(panel, k, r + c);
      for (int c = 0; c < C; ++c) w[c] = Even(pairs[c]);
      add(k, w);
      for (int c = 0; c < C; ++c) w[c] = Odd(pairs[c]);
      add(k + 1, w);
    }
    if (k < cols) {
      for (int c = 0; c < C; ++c) w[c] = Even(LoadPairs(panel, k, r + c));
      add(k, w);
    }
  } else {
    for (; k < cols; ++k) {
      for (int c = 0; c < C; ++c) w[c] = LoadPlain<kType>(panel, k, r + c);
      add(k, w);
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int c = 0; c < C; ++c) Store(out, m, r + c, acc[m][c]);
  }
}

// Tiles of tokens outside, registers inside: a tile's activations stay in the L1 cache for the
// whole panel, and the panel stays in L1 or L2 for all tiles.
struct Avx2 {
  template <DType kType>
  static void Panel(const uint8_t* panel, int64_t cols, const uint8_t* activations, int64_t stride,
                    int64_t num_tokens, const TileOutput& out) {
    if constexpr (IsQuantized(kType)) {
      if (num_tokens == 1) return BlockRow<kType>(panel, cols, activations, out);
    } else {
      if (num_tokens == 1) return PlainTile<kType, 1, 4>(panel, cols, activations, stride, 0, out);
    }
    ForEachTile<6>(num_tokens, [&]<int M>(int64_t first) {
      const uint8_t* x = activations + first * stride;
      constexpr int kStep = IsQuantized(kType) ? 1 : 2;
      for (int r = 0; r * kLanes < out.columns; r += kStep) {
        if constexpr (IsQuantized(kType)) {
          BlockTile<kType, M>(panel, cols, x, stride, r, out.At(first));
        } else {
          PlainTile<kType, M, kStep>(panel, cols, x, stride, r, out.At(first));
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
