#include "kernels/cuda/comm/all_reduce.cuh"

namespace trireme::cuda {

bool UsesOneShot(int world, int64_t bytes) {
  return world <= 2 || (world <= 4 && bytes < 512 << 10) || bytes < 256 << 10;
}

cudaError_t AllReduceAddRmsNorm(DType type, const Peers& peers, bool one_shot, float* x,
                                const float* gain, float eps, int64_t rows, int64_t cols, void* y,
                                cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  cudaError_t error = cudaSuccess;
  const cudaError_t last = WithElements(type, [&](auto element) {
    WithVectors(cols, [&](auto vectors, unsigned threads) {
      error = LaunchAllReduce<decltype(element)::value, decltype(vectors)::value>(
          peers, one_shot, threads, x, gain, eps, rows, cols, y, stream);
    });
  });
  return error != cudaSuccess ? error : last;
}

}  // namespace trireme::cuda
