// Tensor maps: what cuTensorMapEncodeTiled makes and the tensor copies read. The layout is the
// simulator's own; the numbers of the enumerations are those of cuda.h.
#pragma once

#include <array>
#include <cstdint>

#include "absl/status/statusor.h"
#include "tests/gpusim/ptx/module.h"

namespace trireme::gpusim {

// CUtensorMapDataType.
enum class TensorType : uint8_t {
  kU8,
  kU16,
  kU32,
  kS32,
  kU64,
  kS64,
  kF16,
  kF32,
  kF64,
  kBf16,
  kF32Ftz,
  kTf32,
  kTf32Ftz,
};
int SizeOf(TensorType type);  // bytes
ptx::Type ElementType(TensorType type);

// CUtensorMapSwizzle.
enum class TensorSwizzle : uint8_t { kNone, k32B, k64B, k128B };

// Where the byte at shared address `at` lies under a swizzle: 16-byte chunks change places within
// lines of 32, 64 or 128 bytes (PTX ISA, "Swizzling Modes").
inline uint32_t Swizzled(TensorSwizzle swizzle, uint32_t at) {
  constexpr uint32_t kMasks[] = {0, 1, 3, 7};
  return at ^ (at >> 7 & kMasks[static_cast<size_t>(swizzle)]) << 4;
}
// Bytes of a line; 0: none.
inline uint32_t SpanOf(TensorSwizzle swizzle) {
  return swizzle == TensorSwizzle::kNone ? 0 : 16u << static_cast<uint32_t>(swizzle);
}

struct TensorMap {
  static constexpr uint32_t kMagic = 0x50414d54;

  uint32_t magic = 0;
  TensorType type = TensorType::kU8;
  TensorSwizzle swizzle = TensorSwizzle::kNone;
  uint8_t rank = 0;
  bool fill_nan = false;  // what lies outside the tensor; else zero
  uint64_t address = 0;
  std::array<uint64_t, 5> size{};    // elements, innermost first
  std::array<uint64_t, 4> stride{};  // bytes, of the dimensions after the innermost
  std::array<uint16_t, 5> box{};     // elements
  std::array<uint8_t, 5> element_stride{};

  // Elements of the box that are copied along dimension i.
  uint32_t Extent(int i) const {
    const uint32_t step = element_stride[static_cast<size_t>(i)];
    return (box[static_cast<size_t>(i)] + step - 1) / step;
  }
  uint32_t box_bytes() const;  // in shared memory
};
static_assert(sizeof(TensorMap) <= 128);

// The arguments of cuTensorMapEncodeTiled.
struct TiledTensor {
  int data_type = 0, interleave = 0, swizzle = 0, l2_promotion = 0, oob_fill = 0;
  uint32_t rank = 0;
  uint64_t global_address = 0;
  const uint64_t* global_dim = nullptr;       // [rank]
  const uint64_t* global_strides = nullptr;   // [rank - 1], bytes
  const uint32_t* box_dim = nullptr;          // [rank]
  const uint32_t* element_strides = nullptr;  // [rank]
};
// INVALID_ARGUMENT as the driver has it (CUDA driver API, "Tensor Map Object Management");
// UNIMPLEMENTED for interleaved layouts, which no kernel of ours uses, and for what the published
// text leaves open.
absl::StatusOr<TensorMap> EncodeTiled(const TiledTensor& tensor);

}  // namespace trireme::gpusim
