#include "kernels/cuda/gemm/matmul.cuh"

namespace trireme::cuda {

cudaError_t LaunchPlain(DType type, const MatMulArgs& args, MatMulTile tile, cudaStream_t stream) {
  return LaunchFormat<MatrixFormat::kPlain>(type, args, tile, stream);
}

}  // namespace trireme::cuda
