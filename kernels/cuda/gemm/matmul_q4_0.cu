#include "kernels/cuda/gemm/matmul.cuh"

namespace trireme::cuda {

cudaError_t LaunchQ4_0(DType type, const MatMulArgs& args, MatMulTile tile, cudaStream_t stream) {
  return LaunchFormat<MatrixFormat::kQ4_0>(type, args, tile, stream);
}

}  // namespace trireme::cuda
