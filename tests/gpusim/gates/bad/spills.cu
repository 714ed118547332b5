// 200 values at once in the 32 registers that 2,048 threads leave: they spill.
__global__ void __launch_bounds__(1024, 2) Spills(const float* from, float* to, int n) {
  float values[200];
#pragma unroll
  for (int i = 0; i < 200; ++i) values[i] = from[threadIdx.x + i * n];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 200; ++i) to[threadIdx.x + i * n] = values[i] * values[199 - i];
}
