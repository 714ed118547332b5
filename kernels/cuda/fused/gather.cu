#include "kernels/cuda/fused/rows.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;

// Grid: rows, then pieces of kThreads chunks of 16 bytes.
__global__ void __launch_bounds__(kThreads)
    Gather(const uint4* x, const int32_t* indices, int chunks, uint4* y) {
  const int at = static_cast<int>(blockIdx.y * kThreads + threadIdx.x);
  if (at >= chunks) return;
  y[int64_t{blockIdx.x} * chunks + at] = x[int64_t{indices[blockIdx.x]} * chunks + at];
}

}  // namespace

cudaError_t GatherRows(const void* x, const int32_t* indices, int64_t rows, int64_t row_bytes,
                       void* y, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  const int chunks = static_cast<int>(row_bytes / 16);
  const dim3 grid(static_cast<unsigned>(rows),
                  static_cast<unsigned>((chunks + kThreads - 1) / kThreads));
  Gather<<<grid, kThreads, 0, stream>>>(static_cast<const uint4*>(x), indices, chunks,
                                        static_cast<uint4*>(y));
  return cudaGetLastError();
}

}  // namespace trireme::cuda
