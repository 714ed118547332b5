// Where a matrix operand of wgmma or tcgen05 lies in shared memory (PTX ISA, "Asynchronous
// Warpgroup Level Matrix Shared Memory Layout", "Matrix-Descriptor Format", "tcgen05: Shared Memory
// Descriptor"; cross-checked with CUTLASS, see vm_test/cutlass_layouts.py).
//
// Everything is in chunks of 16 bytes: 8 rows of them make a core matrix. K-major, a chunk holds
// neighbours along K of one row (of M or N); MN-major, it holds neighbours along M or N of one k.
#pragma once

#include <cstdint>

#include "tests/gpusim/vm/tensor_map.h"

namespace trireme::gpusim {

struct MatrixDescriptor {
  uint32_t start = 0;    // bytes
  uint32_t leading = 0;  // byte offsets
  uint32_t stride = 0;
  uint32_t base_offset = 0;
  TensorSwizzle swizzle = TensorSwizzle::kNone;

  static MatrixDescriptor OfWgmma(uint64_t bits) {
    constexpr TensorSwizzle kModes[] = {TensorSwizzle::kNone, TensorSwizzle::k128B,
                                        TensorSwizzle::k64B, TensorSwizzle::k32B};
    return Of(bits, kModes[bits >> 62]);
  }
  // False: not one of tcgen05, or of a kind that is not known here (128 bytes in atoms of 32,
  // absolute leading addresses).
  static bool OfTcgen05(uint64_t bits, MatrixDescriptor* out) {
    switch (bits >> 61) {
      case 0:
        *out = Of(bits, TensorSwizzle::kNone);
        break;
      case 2:
        *out = Of(bits, TensorSwizzle::k128B);
        break;
      case 4:
        *out = Of(bits, TensorSwizzle::k64B);
        break;
      case 6:
        *out = Of(bits, TensorSwizzle::k32B);
        break;
      default:
        return false;
    }
    return (bits >> 46 & 3) == 1 && (bits >> 52 & 1) == 0;
  }

  // Chunk `chunk` (0, 1) along K of row `row`.
  uint32_t KMajor(uint32_t row, uint32_t chunk) const {
    const uint32_t span = SpanOf(swizzle);
    if (span == 0) return Place(row % 8 * 16 + row / 8 * stride + chunk * leading);
    return Place(row % 8 * span + row / 8 * stride + chunk * 16);
  }
  // Chunk `chunk` along M or N (16 bytes of it) of row `k` along K.
  uint32_t MnMajor(uint32_t chunk, uint32_t k) const {
    const uint32_t span = SpanOf(swizzle);
    if (span == 0) return Place(k % 8 * 16 + chunk * stride + k / 8 * leading);
    const uint32_t chunks = span / 16;
    return Place(chunk % chunks * 16 + chunk / chunks * leading + k % 8 * span + k / 8 * stride);
  }

 private:
  static MatrixDescriptor Of(uint64_t bits, TensorSwizzle swizzle) {
    const auto field = [bits](int at) { return static_cast<uint32_t>(bits >> at & 0x3fff) << 4; };
    return {field(0), field(16), field(32), static_cast<uint32_t>(bits >> 49 & 7), swizzle};
  }
  // The swizzle's pattern starts at multiples of its size, or as many lines later as base_offset
  // says.
  uint32_t Place(uint32_t offset) const {
    const uint32_t at = start + offset, shift = base_offset * 128;
    return Swizzled(swizzle, at - shift) + shift;
  }
};

}  // namespace trireme::gpusim
