// wgmma of 64 rows by N columns, k = 16, of 16-bit elements (PTX ISA, "wgmma.mma_async"; sm_90a).
#pragma once

#include <cuda.h>

#include <cstdint>

#include "runtime/base/dtype.h"

namespace trireme::cuda {

#define TRIREME_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define TRIREME_D16(i) TRIREME_D4(i), TRIREME_D4(i + 4), TRIREME_D4(i + 8), TRIREME_D4(i + 12)
#define TRIREME_WGMMA(n, type, registers, a_at, b_at, on_at, ...)                   \
  asm volatile("{\n.reg .pred on;\nsetp.ne.b32 on, " on_at                          \
               ", 0;\nwgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type \
               "\n{" registers "},\n" a_at ", " b_at ", on, 1, 1, 0, 0;\n}"         \
               : __VA_ARGS__                                                        \
               : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)))

// d [64][kN] (a warpgroup's fragments) = a [64][16] b [kN][16]^T (+ d) of kType; both operands in
// shared memory, K-major.
template <DType kType, int kN>
struct Wgmma;

// d [64][kN] += a [64][16] b [16][kN]: a in registers, b in shared memory, its rows k.
template <DType kType, int kN>
struct WgmmaOfRegisters;

#define TRIREME_WGMMA_OF_REGISTERS(n, type, registers, a_at, b_at, on_at, ...)      \
  asm volatile("{\n.reg .pred on;\nsetp.ne.b32 on, " on_at                          \
               ", 0;\nwgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type \
               "\n{" registers "},\n{" a_at "}, " b_at ", on, 1, 1, 1;\n}"          \
               : __VA_ARGS__                                                        \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1))

#define TRIREME_REGISTERS "%0, %1, %2, %3"

template <DType kType>
struct Wgmma<kType, 8> {
  __device__ static void Multiply(float (&d)[4], uint64_t a, uint64_t b, bool accumulate) {
    if constexpr (kType == DType::kBF16) {
      TRIREME_WGMMA("8", "bf16", TRIREME_REGISTERS, "%4", "%5", "%6", TRIREME_D4(0));
    } else {
      TRIREME_WGMMA("8", "f16", TRIREME_REGISTERS, "%4", "%5", "%6", TRIREME_D4(0));
    }
  }
};
#undef TRIREME_REGISTERS

#define TRIREME_REGISTERS "%0, %1, %2, %3, %4, %5, %6, %7"

template <DType kType>
struct Wgmma<kType, 16> {
  __device__ static void Multiply(float (&d)[8], uint64_t a, uint64_t b, bool accumulate) {
    if constexpr (kType == DType::kBF16) {
      TRIREME_WGMMA("16", "bf16", TRIREME_REGISTERS, "%8", "%9", "%10", TRIREME_D4(0),
                    TRIREME_D4(4));
    } else {
      TRIREME_WGMMA("16", "f16", TRIREME_REGISTERS, "%8", "%9", "%10", TRIREME_D4(0),
                    TRIREME_D4(4));
    }
  }
};
#undef TRIREME_REGISTERS

#define TRIREME_REGISTERS "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"

template <DType kType>
struct Wgmma<kType, 32> {
  __device__ static void Multiply(float (&d)[16], uint64_t a, uint64_t b, bool accumulate) {
    if constexpr (kType == DType::kBF16) {
      TRIREME_WGMMA("32", "bf16", TRIREME_REGISTERS, "%16", "%17", "%18", TRIREME_D16(0));
    } else {
      TRIREME_WGMMA("32", "f16", TRIREME_REGISTERS, "%16", "%17", "%18", TRIREME_D16(0));
    }
  }
};
#undef TRIREME_REGISTERS

#define TRIREME_REGISTERS                                                  \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"

template <DType kType>
struct Wgmma<kType, 64> {
  __device__ static void Multiply(float (&d)[32], uint64_t a, uint64_t b, bool accumulate) {
    if constexpr (kType == DType::kBF16) {
      TRIREME_WGMMA("64", "bf16", TRIREME_REGISTERS, "%32", "%33", "%34", TRIREME_D16(0),
                    TRIREME_D16(16));
    } else {
      TRIREME_WGMMA("64", "f16", TRIREME_REGISTERS, "%32", "%33", "%34", TRIREME_D16(0),
                    TRIREME_D16(16));
    }
  }
};

template <DType kType>
struct WgmmaOfRegisters<kType, 64> {
  __device__ static void Multiply(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
    if constexpr (kType == DType::kBF16) {
      TRIREME_WGMMA_OF_REGISTERS("64", "bf16", TRIREME_REGISTERS, "%32, %33, %34, %35", "%36",
                                 "%37", TRIREME_D16(0), TRIREME_D16(16));
    } else {
      TRIREME_WGMMA_OF_REGISTERS("64", "f16", TRIREME_REGISTERS, "%32, %33, %34, %35", "%36", "%37",
                                 TRIREME_D16(0), TRIREME_D16(16));
    }
  }
};
#undef TRIREME_REGISTERS

#define TRIREME_REGISTERS                                                            \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"

template <DType kType>
struct WgmmaOfRegisters<kType, 96> {
  __device__ static void Multiply(float (&d)[48], const uint32_t (&a)[4], uint64_t b) {
    if constexpr (kType == DType::kBF16) {
      TRIREME_WGMMA_OF_REGISTERS("96", "bf16", TRIREME_REGISTERS, "%48, %49, %50, %51", "%52",
                                 "%53", TRIREME_D16(0), TRIREME_D16(16), TRIREME_D16(32));
    } else {
      TRIREME_WGMMA_OF_REGISTERS("96", "f16", TRIREME_REGISTERS, "%48, %49, %50, %51", "%52", "%53",
                                 TRIREME_D16(0), TRIREME_D16(16), TRIREME_D16(32));
    }
  }
};
#undef TRIREME_REGISTERS

#define TRIREME_REGISTERS                                                            \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

template <DType kType>
struct Wgmma<kType, 128> {
  __device__ static void Multiply(float (&d)[64], uint64_t a, uint64_t b, bool accumulate) {
    if constexpr (kType == DType::kBF16) {
      TRIREME_WGMMA("128", "bf16", TRIREME_REGISTERS, "%64", "%65", "%66", TRIREME_D16(0),
                    TRIREME_D16(16), TRIREME_D16(32), TRIREME_D16(48));
    } else {
      TRIREME_WGMMA("128", "f16", TRIREME_REGISTERS, "%64", "%65", "%66", TRIREME_D16(0),
                    TRIREME_D16(16), TRIREME_D16(32), TRIREME_D16(48));
    }
  }
};

template <DType kType>
struct WgmmaOfRegisters<kType, 128> {
  __device__ static void Multiply(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
    if constexpr (kType == DType::kBF16) {
      TRIREME_WGMMA_OF_REGISTERS("128", "bf16", TRIREME_REGISTERS, "%64, %65, %66, %67", "%68",
                                 "%69", TRIREME_D16(0), TRIREME_D16(16), TRIREME_D16(32),
                                 TRIREME_D16(48));
    } else {
      TRIREME_WGMMA_OF_REGISTERS("128", "f16", TRIREME_REGISTERS, "%64, %65, %66, %67", "%68",
                                 "%69", TRIREME_D16(0), TRIREME_D16(16), TRIREME_D16(32),
                                 TRIREME_D16(48));
    }
  }
};
#undef TRIREME_REGISTERS

#define TRIREME_REGISTERS                                                                        \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                       \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "             \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

template <DType kType>
struct Wgmma<kType, 256> {
  __device__ static void Multiply(float (&d)[128], uint64_t a, uint64_t b, bool accumulate) {
    if constexpr (kType == DType::kBF16) {
      TRIREME_WGMMA("256", "bf16", TRIREME_REGISTERS, "%128", "%129", "%130", TRIREME_D16(0),
                    TRIREME_D16(16), TRIREME_D16(32), TRIREME_D16(48), TRIREME_D16(64),
                    TRIREME_D16(80), TRIREME_D16(96), TRIREME_D16(112));
    } else {
      TRIREME_WGMMA("256", "f16", TRIREME_REGISTERS, "%128", "%129", "%130", TRIREME_D16(0),
                    TRIREME_D16(16), TRIREME_D16(32), TRIREME_D16(48), TRIREME_D16(64),
                    TRIREME_D16(80), TRIREME_D16(96), TRIREME_D16(112));
    }
  }
};
#undef TRIREME_REGISTERS

#undef TRIREME_WGMMA_OF_REGISTERS
#undef TRIREME_WGMMA
#undef TRIREME_D16
#undef TRIREME_D4

}  // namespace trireme::cuda
