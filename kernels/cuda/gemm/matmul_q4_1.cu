#include "kernels/cuda/gemm/matmul.cuh"

namespace trireme::cuda {

cudaError_t LaunchQ4_1(DType type, const MatMulArgs& args, MatMulTile tile, cudaStream_t stream) {
  return LaunchFormat<MatrixFormat::kQ4_1>(type, args, tile, stream);
}

}  // namespace trireme::cuda
