#include "kernels/cuda/gemm/hopper_matmul.cuh"

namespace trireme::cuda {
namespace {

template <DType kType>
cudaError_t LaunchTokens(const HopperArgs& args, int tokens, cudaStream_t stream) {
  switch (tokens) {
    case 8:
      return LaunchHopperShape<HopperShape<kType, 8>>(args, stream);
    case 16:
      return LaunchHopperShape<HopperShape<kType, 16>>(args, stream);
    case 32:
      return LaunchHopperShape<HopperShape<kType, 32>>(args, stream);
    case 64:
      return LaunchHopperShape<HopperShape<kType, 64>>(args, stream);
    case 128:
      return LaunchHopperShape<HopperShape<kType, 128>>(args, stream);
    default:
      return LaunchHopperShape<HopperShape<kType, 256>>(args, stream);
  }
}

}  // namespace

cudaError_t LaunchHopper(DType type, const HopperArgs& args, int tokens, cudaStream_t stream) {
  return type == DType::kBF16 ? LaunchTokens<DType::kBF16>(args, tokens, stream)
                              : LaunchTokens<DType::kF16>(args, tokens, stream);
}

}  // namespace trireme::cuda
