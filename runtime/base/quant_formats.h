// The block-quantised formats of GGUF, decoded one element at a time: the definition that every
// kernel is tested against, and what runs where speed does not matter. Sources: the GGUF
// specification (ggml docs/gguf.md) and the block structures of ggml; the K formats are llama.cpp's
// "k-quants" (pull request 1684).
//
// All scales are little-endian F16; d multiplies, m (or dmin) is an offset. A nibble byte holds
// element i in its low and element i + half in its high half. Byte layout of a block:
//
//   Q8_0   32 elements   d | 32 x int8                       x = d q
//   Q4_0   32 elements   d | 16 nibble bytes                 x = d (q - 8)
//   Q4_1   32 elements   d m | 16 nibble bytes               x = d q + m
//   Q5_0   32 elements   d | 4 bytes, bit i = q[i]'s bit 4 | 16 nibble bytes      x = d (q - 16)
//   Q5_1   32 elements   d m | 4 bytes of fifth bits | 16 nibble bytes            x = d q + m
//
//   Q4_K  256 elements   d dmin | 12 bytes: 8 scales and 8 mins of 6 bits | 128 nibble bytes
//         Sub-block j (32 elements): x = d scale[j] q - dmin min[j]. Nibble bytes in 4 groups of
//         32: group g holds sub-block 2g in its low and 2g + 1 in its high halves. For j < 4:
//         scale[j] = b[j] & 63, min[j] = b[j+4] & 63; for j >= 4: scale[j] = (b[j+4] & 15) |
//         (b[j-4] >> 6) << 4, min[j] = (b[j+4] >> 4) | (b[j] >> 6) << 4.
//   Q5_K  256 elements   d dmin | 12 bytes as above | 32 bytes, bit j of byte i = q's bit 4 of
//   element i of
//         sub-block j | 128 nibble bytes as above
//   Q6_K  256 elements   128 low-nibble bytes | 64 bytes of high bit pairs | 16 x int8 scale | d
//         x = d scale[i / 16] (q - 32). Per half of 128 elements, 64 nibble bytes and 32 pair
//         bytes; for l < 32: elements l, l+32 are the low nibbles of bytes l, l+32, elements l+64,
//         l+96 their high nibbles; the pair byte l holds the high bits of l, l+32, l+64, l+96 from
//         bit 0 upwards.
#pragma once

#include <cstdint>

#include "runtime/base/dtype.h"

namespace trireme {

// Widens `n` elements (a multiple of BlockSize(type)) at `row`, which needs no alignment, to `out`
// [n]. Any DType. Products and sums are rounded to F32 in the order that the formulas above are
// written in: (d scale) q - (dmin min).
void DequantizeRow(DType type, const void* row, int64_t n, float* out);

}  // namespace trireme
