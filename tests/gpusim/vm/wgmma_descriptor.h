// Where a matrix operand of wgmma lies in shared memory (PTX ISA, "Asynchronous Warpgroup Level
// Matrix Shared Memory Layout" and "Matrix-Descriptor Format"; cross-checked with CUTLASS, see
// vm_test/cutlass_layouts.py).
//
// Everything is in chunks of 16 bytes: 8 rows of them make a core matrix. K-major, a chunk holds
// neighbours along K of one row (of M or N); MN-major, it holds neighbours along M or N of one k.
#pragma once

#include <cstdint>

#include "tests/gpusim/vm/tensor_map.h"

namespace trireme::gpusim {

struct WgmmaDescriptor {
  uint32_t start = 0;    // bytes
  uint32_t leading = 0;  // byte offsets
  uint32_t stride = 0;
  uint32_t base_offset = 0;
  TensorSwizzle swizzle = TensorSwizzle::kNone;

  static WgmmaDescriptor Of(uint64_t bits) {
    const auto field = [bits](int at) { return static_cast<uint32_t>(bits >> at & 0x3fff) << 4; };
    constexpr TensorSwizzle kModes[] = {TensorSwizzle::kNone, TensorSwizzle::k128B,
                                        TensorSwizzle::k64B, TensorSwizzle::k32B};
    return {field(0), field(16), field(32), static_cast<uint32_t>(bits >> 49 & 7),
            kModes[bits >> 62]};
  }

  // Chunk `chunk` (0, 1) along K of row `row`.
  uint32_t KMajor(uint32_t row, uint32_t chunk) const {
    const uint32_t span = SpanOf(swizzle);
    if (span == 0) return Place(row % 8 * 16 + row / 8 * stride + chunk * leading);
    return Place(row % 8 * span + row / 8 * stride + chunk * 16);
  }
  // Chunk `chunk` along M or N, eight 16-bit elements each, of row `k` along K.
  uint32_t MnMajor(uint32_t chunk, uint32_t k) const {
    const uint32_t span = SpanOf(swizzle);
    if (span == 0) return Place(k % 8 * 16 + chunk * stride + k / 8 * leading);
    const uint32_t chunks = span / 16;
    return Place(chunk % chunks * 16 + chunk / chunks * leading + k % 8 * span + k / 8 * stride);
  }

 private:
  // The swizzle's pattern starts at multiples of its size, or as many lines later as base_offset
  // says.
  uint32_t Place(uint32_t offset) const {
    const uint32_t at = start + offset, shift = base_offset * 128;
    return Swizzled(swizzle, at - shift) + shift;
  }
};

}  // namespace trireme::gpusim
