// Blackwell's tcgen05 instructions, one function each (PTX ISA 8.6 and later, sm_100a). Those of a
// whole warp say so; the others are one thread's.
#pragma once

#include "kernels/cuda/primitives/hopper.cuh"

namespace trireme::blackwell {

using hopper::SharedAddress;

// ---- Tensor memory, by a whole warp. `columns`: a power of two from 32 to 512.

template <int columns>
__device__ __forceinline__ void AllocateColumns(uint32_t to_shared) {
  asm volatile("tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%0], %1;" ::"r"(to_shared),
               "r"(columns)
               : "memory");
  asm volatile("tcgen05.relinquish_alloc_permit.cta_group::1.sync.aligned;");
}
template <int columns>
__device__ __forceinline__ void FreeColumns(uint32_t tensor) {
  asm volatile("tcgen05.dealloc.cta_group::1.sync.aligned.b32 %0, %1;" ::"r"(tensor), "r"(columns)
               : "memory");
}

#define TRIREME_R8(i)                                                                         \
  "=r"(d[i]), "=r"(d[i + 1]), "=r"(d[i + 2]), "=r"(d[i + 3]), "=r"(d[i + 4]), "=r"(d[i + 5]), \
      "=r"(d[i + 6]), "=r"(d[i + 7])
// 32 columns of the lane that is this thread's.
__device__ __forceinline__ void LoadColumns(uint32_t (&d)[32], uint32_t tensor) {
  asm volatile(
      "tcgen05.ld.sync.aligned.32x32b.x32.b32\n"
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,\n"
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, [%32];"
      : TRIREME_R8(0), TRIREME_R8(8), TRIREME_R8(16), TRIREME_R8(24)
      : "r"(tensor)
      : "memory");
}
#undef TRIREME_R8
__device__ __forceinline__ void WaitLoads() {
  asm volatile("tcgen05.wait::ld.sync.aligned;" ::: "memory");
}

// ---- Order between threads

__device__ __forceinline__ void FenceBeforeSync() {
  asm volatile("tcgen05.fence::before_thread_sync;" ::: "memory");
}
__device__ __forceinline__ void FenceAfterSync() {
  asm volatile("tcgen05.fence::after_thread_sync;" ::: "memory");
}
// Arrives at the mbarrier when all that this thread has started is done.
__device__ __forceinline__ void Commit(uint32_t barrier) {
  asm volatile(
      "tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%0];" ::"r"(barrier)
      : "memory");
}

// ---- Operations

// K-major operand of 128-byte lines under the 128-byte swizzle: 8 lines are 1024 bytes.
__device__ __forceinline__ uint64_t OperandDescriptor(uint32_t address) {
  return static_cast<uint64_t>((address & 0x3ffff) >> 4) | uint64_t{1} << 16 | uint64_t{64} << 32 |
         uint64_t{1} << 46 | uint64_t{2} << 61;
}
// 8 rows of 16 bytes one behind the other, 128 bytes to the next 8.
__device__ __forceinline__ uint64_t ScaleDescriptor(uint32_t address) {
  return static_cast<uint64_t>((address & 0x3ffff) >> 4) | uint64_t{8} << 16 | uint64_t{8} << 32 |
         uint64_t{1} << 46;
}

enum class Kind { kBf16, kE4m3, kNvf4 };

// Sums in f32, both operands K-major.
__host__ __device__ constexpr uint32_t InstructionDescriptor(Kind kind, int m, int n) {
  const uint32_t shape = static_cast<uint32_t>(n / 8) << 17 | static_cast<uint32_t>(m / 16) << 24;
  switch (kind) {
    case Kind::kBf16:
      return shape | 1u << 4 | 1u << 7 | 1u << 10;
    case Kind::kE4m3:
      return shape | 1u << 4;
    case Kind::kNvf4:  // e2m1 elements, ue4m3 scales
      return shape | 1u << 7 | 1u << 10;
  }
  return 0;
}

// d [m][n] in tensor memory = a b^T (+ d), over 32 bytes of K.
template <Kind kind>
__device__ __forceinline__ void MultiplyTiles(uint32_t d, uint64_t a, uint64_t b,
                                              uint32_t instruction, bool accumulate,
                                              uint32_t scales_a, uint32_t scales_b) {
  const uint32_t adds = accumulate;
  if constexpr (kind == Kind::kBf16) {
    asm volatile(
        "{\n.reg .pred adds;\nsetp.ne.b32 adds, %4, 0;\n"
        "tcgen05.mma.cta_group::1.kind::f16 [%0], %1, %2, %3, adds;\n}" ::"r"(d),
        "l"(a), "l"(b), "r"(instruction), "r"(adds)
        : "memory");
  } else if constexpr (kind == Kind::kE4m3) {
    asm volatile(
        "{\n.reg .pred adds;\nsetp.ne.b32 adds, %4, 0;\n"
        "tcgen05.mma.cta_group::1.kind::f8f6f4 [%0], %1, %2, %3, adds;\n}" ::"r"(d),
        "l"(a), "l"(b), "r"(instruction), "r"(adds)
        : "memory");
  } else {
    asm volatile(
        "{\n.reg .pred adds;\nsetp.ne.b32 adds, %4, 0;\n"
        "tcgen05.mma.cta_group::1.kind::mxf4nvf4.block_scale.scale_vec::4X [%0], %1, %2, %3, [%5], "
        "[%6], adds;\n}" ::"r"(d),
        "l"(a), "l"(b), "r"(instruction), "r"(adds), "r"(scales_a), "r"(scales_b)
        : "memory");
  }
}

// 32 rows of 16 bytes to 4 columns, the same in each warp's lanes.
__device__ __forceinline__ void CopyScales(uint32_t tensor, uint64_t descriptor) {
  asm volatile("tcgen05.cp.cta_group::1.32x128b.warpx4 [%0], %1;" ::"r"(tensor), "l"(descriptor)
               : "memory");
}

}  // namespace trireme::blackwell
