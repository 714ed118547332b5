// An array with an index that only the run knows: it lies in local memory.
__global__ void __launch_bounds__(128) LocalMemory(const int* from, float* to) {
  float values[16];
  for (int i = 0; i < 16; ++i) values[i] = to[i];
  for (int i = 0; i < 16; ++i) values[from[i] & 15] += 1;
  to[threadIdx.x] = values[from[threadIdx.x] & 15];
}
