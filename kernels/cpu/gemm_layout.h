// How weights lie in packed panels and activations in rows: one layout for every instruction set.
//
// A panel holds kPanelRows = 32 consecutive rows of W [N, K] (32 output columns) for the whole of
// K. Along K the order is the file's; across rows the panel is interleaved so that one vector
// register holds the same few elements of neighbouring rows. A 16-row half is one 512-bit or two
// 256-bit registers.
//
// Quantised types: blocks of 32 elements, one after the other; each block has the codes of all 32
// rows, then scales:
//
//          half 0 (rows 0..15)                      half 1 (rows 16..31)
//   codes  [quad 0][quad 1] ... [quad Q-1]          the same                 Q = 8 (8-bit codes) or
//   4 (4-bit)
//            |
//            64 bytes: row 0: e0 e1 e2 e3 | row 1: e0 e1 e2 e3 | ... | row 15
//                      4-bit: the low nibble is element 4q+i, the high nibble is element 16+4q+i
//   scales [32 rows] per group of 32 elements (Q6_K: two arrays, one per group of 16)
//   mins   [32 rows] for types that have a minimum
//
//   value = scale * (code - zero_point)   or   scale * code + min
//
//   type        codes       scales             block bytes   bits per weight (file)
//   Q4_0        4, zero 8   f16                   576          4.5  (4.5)
//   Q4_1        4           f16, min f16          640          5.0  (5.0)
//   Q4_K        4           f32, min f32          768          6.0  (4.5)
//   Q5_0        8, zero 16  f16                  1088          8.5  (5.5)
//   Q5_1        8           f16, min f16         1152          9.0  (6.0)
//   Q5_K        8           f32, min f32         1280         10.0  (5.5)
//   Q6_K        8, zero 32  f32 per 16 elements  1280         10.0  (6.6)
//   Q8_0        8, signed   f16                  1088          8.5  (8.5)
//
// Legacy types keep the file's f16 scales. For K-quants the products that their dequantisation
// starts with (d * scale, -dmin * min) are stored, rounded to f32 exactly as the dequantisation
// rounds them. Either way UnpackRow gives the values of the file bit by bit, so a packed matrix
// also serves as the embedding table.
//
// Plain types, element-major:
//   F32, F16   for each k: [32 rows]
//   BF16       for each pair (2j, 2j+1): [32 rows][2]: a 32-bit lane widens with one shift (even)
//   or mask (odd).
//              An odd K is padded with zeros that no kernel reads.
//
// Activations: for plain types the F32 row itself. For quantised types ActivationBlocks.
#pragma once

#include <cstdint>

#include "runtime/base/dtype.h"

namespace trireme::cpu {

// Internal linkage on purpose: these are used in translation units compiled for different
// instruction sets.
constexpr uint32_t kPanelLayoutVersion = 1;  // raise it with any change of the bytes in a panel
constexpr int kPanelRows = 32;
constexpr int kHalfRows = 16;
constexpr int kBlock = 32;      // elements per block
constexpr int kQuadBytes = 64;  // four elements (4-bit: eight) of the 16 rows of a half

// 32 activations: x[i] ~ scale * q[i]. scale = max|x| / 127, so |q| <= 127, which the AVX2 kernels
// rely on. A block that holds NaN or infinity has a NaN or infinite scale and poisons every output
// of its token.
struct alignas(16) ActivationBlock {
  int8_t q[kBlock];
  float scale;
  float scaled_sum;  // scale * (sum[0] + sum[1]), multiplies the minimum
  int16_t sum[2];    // of q over each half of the block, multiplies the zero point
};
static_assert(sizeof(ActivationBlock) == 48);
// Bits of 2^-100: a block whose largest magnitude is below this is zero (1 / scale would come near
// overflow).
constexpr uint32_t kSmallestMaxBits = (127u - 100u) << 23;

// How one quantised type is stored in a panel.
struct BlockFormat {
  int code_bits;      // 4 or 8
  int max_code;       // of unsigned codes: how many products fit into 16 bits
  bool signed_codes;  // int8 codes; then max_code is unused
  int zero_point;
  bool f32_scales;  // else f16
  int groups;       // scales per block and row
  bool has_min;

  // Byte offsets within a block.
  constexpr int half_bytes() const { return kHalfRows * kBlock * code_bits / 8; }
  constexpr int scale_bytes() const { return kPanelRows * (f32_scales ? 4 : 2); }  // one array
  constexpr int scales_offset() const { return 2 * half_bytes(); }
  constexpr int mins_offset() const { return scales_offset() + groups * scale_bytes(); }
  constexpr int block_bytes() const { return mins_offset() + (has_min ? scale_bytes() : 0); }
};

static constexpr BlockFormat BlockFormatOf(DType type) {
  switch (type) {  //      bits  max  signed zero  f32  groups min
    case DType::kQ4_0:
      return {4, 15, false, 8, false, 1, false};
    case DType::kQ4_1:
      return {4, 15, false, 0, false, 1, true};
    case DType::kQ4_K:
      return {4, 15, false, 0, true, 1, true};
    case DType::kQ5_0:
      return {8, 31, false, 16, false, 1, false};
    case DType::kQ5_1:
      return {8, 31, false, 0, false, 1, true};
    case DType::kQ5_K:
      return {8, 31, false, 0, true, 1, true};
    case DType::kQ6_K:
      return {8, 63, false, 32, true, 2, false};
    default:
      return {8, 0, true, 0, false, 1, false};  // Q8_0; plain types have no blocks
  }
}

}  // namespace trireme::cpu
