// Touches the accumulator between two wgmma of one group: ptxas must wait in between.
#include <cstdint>

#define GPUSIM_WGMMA(d, a, b)                                                          \
  asm volatile(                                                                        \
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, %4, %5, 1, " \
      "1, 1, 0, 0;"                                                                    \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                 \
      : "l"(a), "l"(b))

__global__ void __launch_bounds__(128) SerializedWgmma(uint64_t a, uint64_t b, float* to) {
  float d[4] = {};
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  GPUSIM_WGMMA(d, a, b);
  d[0] *= 2;
  GPUSIM_WGMMA(d, a, b);
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  for (int i = 0; i < 4; ++i) to[threadIdx.x * 4 + i] = d[i];
}
