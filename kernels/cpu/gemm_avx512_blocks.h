// AVX-512 tiles of quantised weights. Included only by gemm_avx512.cc.
//
// vpdpbusd adds four products of unsigned codes and signed activations to 32 bits, exactly. Signed
// codes are made unsigned by adding 128 (flipping the top bit), which counts as a zero point; a
// zero point z costs nothing: the sum starts at -z * sum(a) instead of 0.
//
// Nor does it cost anything to make floats of the sums. They start at the bits of kOffset, 1.5 *
// 2^23, the middle of the floats whose last bit counts ones: behind the products, which are less
// than 2^21 together, the bits are those of kOffset + dot. Then scale * dot is one fused
// multiply-add, scale * bits - scale * kOffset, with one rounding, for all formats' scales have 22
// significant bits at most.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/gemm_avx512_registers.h"
#include "kernels/cpu/gemm_layout.h"
#include "kernels/cpu/gemm_tiles.h"

namespace trireme::cpu {
namespace {

constexpr int kQuads = kBlock / 4;  // groups of four elements in a block
constexpr float kOffset = 0x1.8p23f;
constexpr int32_t kOffsetBits = 0x4b400000;

// Codes and scales of the block at `data`, as packed. Half h: rows [16 h, 16 h + 16).
template <DType kType>
struct PackedBlock {
  static constexpr BlockFormat kFormat = BlockFormatOf(kType);
  static constexpr int kGroups = kFormat.groups;
  static constexpr bool kHasMin = kFormat.has_min;
  static constexpr int kZeroPoint = kFormat.signed_codes ? 128 : kFormat.zero_point;
  static constexpr int kBytes = kFormat.block_bytes();
  const uint8_t* data;

  // The quad to take i-th: both nibbles of a byte one after the other.
  static constexpr int QuadOf(int i) {
    return kFormat.code_bits == 4 ? i / 2 + i % 2 * (kQuads / 2) : i;
  }
  TRIREME_INLINE_MEMBER __m512i Codes(int q, int h) const {
    const uint8_t* half = data + h * kFormat.half_bytes();
    if constexpr (kFormat.code_bits == 4) {
      const __m512i both = Load(half + q % (kQuads / 2) * kQuadBytes);
      return _mm512_and_si512(q < kQuads / 2 ? both : _mm512_srli_epi16(both, 4),
                              _mm512_set1_epi8(15));
    } else {
      const __m512i codes = Load(half + q * kQuadBytes);
      return kFormat.signed_codes ? _mm512_xor_si512(codes, _mm512_set1_epi8(-128)) : codes;
    }
  }
  TRIREME_INLINE_MEMBER __m512 Scale(int group, int h) const {
    return Floats(data + kFormat.scales_offset() + group * kFormat.scale_bytes(), h);
  }
  TRIREME_INLINE_MEMBER __m512 Offset(int group, int h) const {
    return _mm512_mul_ps(Scale(group, h), _mm512_set1_ps(-kOffset));
  }
  TRIREME_INLINE_MEMBER __m512 Min(int h) const { return Floats(data + kFormat.mins_offset(), h); }

 private:
  TRIREME_INLINE_MEMBER static __m512 Floats(const uint8_t* array, int h) {
    if constexpr (kFormat.f32_scales) {
      return _mm512_loadu_ps(reinterpret_cast<const float*>(array) + h * kLanes);
    } else {
      return _mm512_cvtph_ps(
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(array + h * kLanes * 2)));
    }
  }
};

// The same of any type, unpacked once for many tokens: what a tile would otherwise do again and
// again. A sixth of a 4-bit tile's instructions.
template <int kNumGroups, bool kMin>
struct UnpackedBlock {
  static constexpr int kGroups = kNumGroups;
  static constexpr bool kHasMin = kMin;
  // [halves][quads][64 bytes] codes, then [halves][16] floats of each group's scales and offsets,
  // then of minima.
  static constexpr int kScales = 2 * kQuads * kQuadBytes, kArray = kPanelRows * 4;
  static constexpr int kBytes = kScales + (2 * kGroups + kMin) * kArray;
  const uint8_t* data;

  static constexpr int QuadOf(int i) { return i; }
  TRIREME_INLINE_MEMBER __m512i Codes(int q, int h) const {
    return Load(data + (h * kQuads + q) * kQuadBytes);
  }
  TRIREME_INLINE_MEMBER __m512 Scale(int group, int h) const { return Floats(2 * group, h); }
  TRIREME_INLINE_MEMBER __m512 Offset(int group, int h) const { return Floats(2 * group + 1, h); }
  TRIREME_INLINE_MEMBER __m512 Min(int h) const { return Floats(2 * kGroups, h); }

 private:
  TRIREME_INLINE_MEMBER __m512 Floats(int array, int h) const {
    return _mm512_loadu_ps(reinterpret_cast<const float*>(data + kScales + array * kArray) +
                           h * kLanes);
  }
};
template <DType kType>
using Unpacked = UnpackedBlock<PackedBlock<kType>::kGroups, PackedBlock<kType>::kHasMin>;

// to: [blocks] of Unpacked<kType>, 64-byte aligned.
template <DType kType>
[[gnu::noinline]] void UnpackBlocks(const uint8_t* from, int64_t num_blocks, uint8_t* to) {
  using To = Unpacked<kType>;
  for (int64_t b = 0; b < num_blocks; ++b, to += To::kBytes) {
    const PackedBlock<kType> block = {from + b * PackedBlock<kType>::kBytes};
    auto* scales = reinterpret_cast<float*>(to + To::kScales);
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
#pragma GCC unroll 8
      for (int q = 0; q < kQuads; ++q) {
        _mm512_store_si512(to + (h * kQuads + q) * kQuadBytes, block.Codes(q, h));
      }
#pragma GCC unroll 2
      for (int g = 0; g < To::kGroups; ++g) {
        _mm512_store_ps(scales + 2 * g * kPanelRows + h * kLanes, block.Scale(g, h));
        _mm512_store_ps(scales + (2 * g + 1) * kPanelRows + h * kLanes, block.Offset(g, h));
      }
      if constexpr (To::kHasMin) {
        _mm512_store_ps(scales + 2 * To::kGroups * kPanelRows + h * kLanes, block.Min(h));
      }
    }
  }
}

// acc[m] += block * block m of the activations. zero[g]: what the halves' sums count in group g.
template <class Block, int M>
TRIREME_INLINE void AddBlock(Block block, const __m512i* zero, const ActivationBlock* const* x,
                             __m512 (*acc)[2]) {
  constexpr int kCount = kQuads / Block::kGroups;
#pragma GCC unroll 2
  for (int g = 0; g < Block::kGroups; ++g) {
    __m512i dot[M][2];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      __m512i start = _mm512_set1_epi32(kOffsetBits);
      if constexpr (!Block::kHasMin) {  // types that have a minimum have no zero point
        int32_t sums;
        __builtin_memcpy(&sums, x[m]->sum, sizeof(sums));
        start = _mm512_dpwssd_epi32(start, zero[g], _mm512_set1_epi32(sums));
      }
      dot[m][0] = dot[m][1] = start;
    }
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) {
      const int q = Block::QuadOf(g * kCount + i);
      const __m512i codes[2] = {block.Codes(q, 0), block.Codes(q, 1)};
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        int32_t quad;
        __builtin_memcpy(&quad, x[m]->q + 4 * q, sizeof(quad));
        const __m512i a = _mm512_set1_epi32(quad);
        dot[m][0] = _mm512_dpbusd_epi32(dot[m][0], codes[0], a);
        dot[m][1] = _mm512_dpbusd_epi32(dot[m][1], codes[1], a);
      }
    }
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m512 scale = block.Scale(g, h), offset = block.Offset(g, h);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const __m512 scaled = _mm512_fmadd_ps(_mm512_castsi512_ps(dot[m][h]), scale, offset);
        acc[m][h] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(x[m]->scale), acc[m][h]);
      }
    }
  }
  if constexpr (Block::kHasMin) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m512 min = block.Min(h);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        acc[m][h] = _mm512_fmadd_ps(min, _mm512_set1_ps(x[m]->scaled_sum), acc[m][h]);
      }
    }
  }
}

// A run of blocks: K's columns, or a part of them.
struct BlockRun {
  const uint8_t* data;
  int64_t num_blocks;
  bool resume;  // y holds the sums over the blocks before
};

// The sums that y holds, of M tokens by the panel's rows.
template <int M>
TRIREME_INLINE void LoadSums(const TileOutput& out, __m512 (&acc)[M][2]) {
  alignas(64) float padded[kPanelRows] = {};
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    const float* y = out.y + m * out.stride;
    if (out.columns < kPanelRows) {
      __builtin_memcpy(padded, y, out.columns * sizeof(float));
      y = padded;
    }
    acc[m][0] = _mm512_loadu_ps(y);
    acc[m][1] = _mm512_loadu_ps(y + kLanes);
  }
}

template <class Block, int M>
[[gnu::noinline]] void BlockTile(const BlockRun& run, int zero_point, Ahead* ahead_of_all,
                                 const uint8_t* activations, int64_t stride,
                                 const TileOutput& out) {
  __m512 acc[M][2];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) acc[m][0] = acc[m][1] = _mm512_setzero_ps();
  // Sums are needed at once: those of the next tile are asked for.
  PrefetchOutput<M>(run.resume ? out.At(M) : out);
  if (run.resume) LoadSums(out, acc);
  const int32_t first = -zero_point & 0xffff, second = -zero_point * 0x10000;
  const bool split = Block::kGroups == 2;  // each half of the block is a group
  const __m512i zero[2] = {_mm512_set1_epi32(split ? first : first | second),
                           _mm512_set1_epi32(second)};
  Ahead ahead = *ahead_of_all;
  Block block = {run.data};
  for (int64_t b = 0; b < run.num_blocks; ++b, block.data += Block::kBytes) {
    ahead.Step();
    const ActivationBlock* x[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      x[m] = reinterpret_cast<const ActivationBlock*>(activations + m * stride) + b;
    }
    AddBlock<Block, M>(block, zero, x, acc);
  }
  *ahead_of_all = ahead;
  Store(out, acc);
}

// A panel. Few tokens wait for memory: their tiles unpack the codes as they go. For more tokens the
// panel is unpacked first, a part at a time that fits the L1 cache beside the activations, and
// tiles pass over that; sums wait in y from one part to the next.
template <DType kType>
void MultiplyBlocks(const Panel& panel, const uint8_t* activations, int64_t stride,
                    int64_t num_tokens, const TileOutput& out) {
  using Packed = PackedBlock<kType>;
  constexpr int kTokens = 6;  // two kinds of sums fill the registers
  // 25 KiB. Shorter parts cost more turns of the sums through y than L1 misses saved.
  constexpr int64_t kPartBlocks = 18;
  // 8-bit codes have little to unpack.
  constexpr int64_t kUnpackTiles = BlockFormatOf(kType).code_bits == 4 ? 5 : 9;
  const int64_t num_blocks = panel.cols / kBlock;
  const int64_t tiles = (num_tokens + kTokens - 1) / kTokens;
  if (tiles < kUnpackTiles) {
    Ahead ahead = Ahead::Of<kType>(panel, tiles);
    ForEachTile<kTokens>(num_tokens, [&]<int M>(int64_t first) {
      BlockTile<Packed, M>({panel.data, num_blocks, false}, Packed::kZeroPoint, &ahead,
                           activations + first * stride, stride, out.At(first));
    });
    return;
  }
  alignas(64) uint8_t unpacked[kPartBlocks * Unpacked<kType>::kBytes];
  for (int64_t left = num_blocks, begin = 0; begin < num_blocks;) {
    // As equal as possible.
    const int64_t count = left / ((left + kPartBlocks - 1) / kPartBlocks);
    left -= count;
    const uint8_t* data = panel.data + begin * Packed::kBytes;
    UnpackBlocks<kType>(data, count, unpacked);
    Ahead ahead = Ahead::Of<kType>(
        {data, count * Packed::kBytes, count * kBlock, left > 0 || panel.has_next}, tiles);
    ForEachTile<kTokens>(num_tokens, [&]<int M>(int64_t first) {
      TileOutput to = out.At(first);
      if (left > 0) to.bias = nullptr;
      const uint8_t* x = activations + first * stride + begin * sizeof(ActivationBlock);
      BlockTile<Unpacked<kType>, M>({unpacked, count, begin > 0}, Packed::kZeroPoint, &ahead, x,
                                    stride, to);
    });
    begin += count;
  }
}

}  // namespace
}  // namespace trireme::cpu
