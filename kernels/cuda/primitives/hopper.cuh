// Hopper's asynchronous instructions, one function each (PTX ISA 8.0 and later, sm_90a).
#pragma once

#include <cuda.h>

#include <cstdint>
#include <type_traits>

namespace trireme::hopper {

__device__ __forceinline__ uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// ---- mbarrier

__device__ __forceinline__ void InitBarrier(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
// Makes initialised mbarriers known to the copies that complete on them.
__device__ __forceinline__ void FenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void ArriveExpectBytes(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void Arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void WaitBarrier(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred complete;\n"
      "AGAIN_%=:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 complete, [%0], %1;\n"
      "@complete bra DONE_%=;\n"
      "bra AGAIN_%=;\n"
      "DONE_%=:\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// ---- Tensor copies

__device__ __forceinline__ void LoadTile(uint32_t to, const CUtensorMap* map, int x, int y,
                                         uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
      "l"(map), "r"(x), "r"(y), "r"(barrier)
      : "memory");
}
__device__ __forceinline__ void StoreTile(const CUtensorMap* map, int x, int y, uint32_t from) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map),
      "r"(x), "r"(y), "r"(from)
      : "memory");
}
__device__ __forceinline__ void CommitStores() { asm volatile("cp.async.bulk.commit_group;"); }
// Until the sources of all stores may be written again.
__device__ __forceinline__ void WaitStoresRead() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
// What this thread has written is seen by its copies and by wgmma from now on.
__device__ __forceinline__ void FenceProxyAsync() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// ---- wgmma

// An operand in lines of kLineBytes (128 or 64), swizzled by as many, eight of them after another;
// lines are rows of a K-major operand, or of the k of one that is not. `leading_bytes`: of the
// latter, from the columns of a line to those of the next.
template <int kLineBytes>
__device__ __forceinline__ uint64_t Descriptor(uint32_t address, uint32_t leading_bytes = 16) {
  static_assert(kLineBytes == 128 || kLineBytes == 64);
  constexpr uint64_t kSwizzle = kLineBytes == 128 ? 1 : 2;
  return static_cast<uint64_t>((address & 0x3ffff) >> 4) | uint64_t{leading_bytes >> 4} << 16 |
         uint64_t{kLineBytes * 8 >> 4} << 32 | kSwizzle << 62;
}
// K-major operand of 128-byte lines under the 128-byte swizzle.
__device__ __forceinline__ uint64_t Descriptor(uint32_t address) {
  return Descriptor<128>(address);
}
__device__ __forceinline__ void WgmmaFence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void WgmmaCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most `groups` groups are under way.
template <int groups>
__device__ __forceinline__ void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups) : "memory");
}

// Nothing that computes `r` is moved behind this, nothing that uses it before: the compiler does
// not know that wgmma reads and writes registers until it is waited for.
template <typename T, int kN>
__device__ __forceinline__ void Pin(T (&r)[kN]) {
#pragma unroll
  for (int i = 0; i < kN; ++i) {
    if constexpr (std::is_floating_point_v<T>) {
      asm volatile("" : "+f"(r[i])::"memory");
    } else if constexpr (std::is_array_v<T>) {
      Pin(r[i]);
    } else {
      asm volatile("" : "+r"(r[i])::"memory");
    }
  }
}

#define TRIREME_D8(i)                                                                         \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
// d [64][128] (a warpgroup's fragments) = a [64][16] b [128][16]^T (+ d).
__device__ __forceinline__ void Wgmma64x128x16(float (&d)[64], uint64_t a, uint64_t b,
                                               bool accumulate) {
  asm volatile(
      "{\n"
      ".reg .pred accumulate;\n"
      "setp.ne.b32 accumulate, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16\n"
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,\n"
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,\n"
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,\n"
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63},\n"
      "%64, %65, accumulate, 1, 1, 0, 0;\n"
      "}"
      : TRIREME_D8(0), TRIREME_D8(8), TRIREME_D8(16), TRIREME_D8(24), TRIREME_D8(32),
        TRIREME_D8(40), TRIREME_D8(48), TRIREME_D8(56)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}
#undef TRIREME_D8

template <int registers>
__device__ __forceinline__ void GiveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
__device__ __forceinline__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

// Of `threads` threads that name the same barrier, 1 to 15.
__device__ __forceinline__ void NamedBarrier(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

}  // namespace trireme::hopper
