#include "kernels/cuda/gemm/matmul.cuh"

namespace trireme::cuda {

cudaError_t LaunchQ8_0(DType type, const MatMulArgs& args, MatMulTile tile, cudaStream_t stream) {
  return LaunchFormat<MatrixFormat::kQ8_0>(type, args, tile, stream);
}

}  // namespace trireme::cuda
