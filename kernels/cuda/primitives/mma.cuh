// Matrix units and packed arithmetic for either 16-bit type of activations.
#pragma once

#include "kernels/cuda/primitives/ptx.cuh"
#include "runtime/base/dtype.h"

namespace ptx {

// d += a b: 16x8 of fp32, k = 16 of `kType` (kBF16 or kF16).
template <trireme::DType kType>
__device__ inline void MultiplyAddOf(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                     uint32_t b1) {
  if constexpr (kType == trireme::DType::kBF16) {
    MultiplyAdd(d, a, b0, b1);
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// The same from zero.
template <trireme::DType kType>
__device__ inline void MultiplyOf(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#define TRIREME_MULTIPLY(type)                                                       \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                \
               ".f32 "                                                               \
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};" \
               : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])                      \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.0f))
  if constexpr (kType == trireme::DType::kBF16) {
    TRIREME_MULTIPLY("bf16");
  } else {
    TRIREME_MULTIPLY("f16");
  }
#undef TRIREME_MULTIPLY
}

// a + b in pairs, rounded; as a fused multiply by one, which sm_80 has for bf16, too.
template <trireme::DType kType>
__device__ inline uint32_t AddPairs(uint32_t a, uint32_t b) {
  uint32_t sum;
  if constexpr (kType == trireme::DType::kBF16) {
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(0x3f803f80u), "r"(b));
  } else {
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(a), "r"(b));
  }
  return sum;
}

// (a & b) | c
__device__ inline uint32_t AndOr(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
// (a & b) ^ c
__device__ inline uint32_t AndXor(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

__device__ inline uint4 LoadShared16(uint32_t from) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(from)
               : "memory");
  return v;
}
// One store, whatever the compiler knows of the alignment.
__device__ inline void StoreGlobal16(void* to, uint4 v) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z),
               "r"(v.w)
               : "memory");
}
__device__ inline uint2 LoadShared8(uint32_t from) {
  uint2 v;
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(from) : "memory");
  return v;
}

}  // namespace ptx
