// A CTA computes `tile.rows()` rows of y^T for `tile.tokens` tokens. Steps of 64 columns pass
// through a ring of shared memory that cp.async fills; one barrier a step.
//
//   stage   weights [row tiles] of StepBytes, as packed | x [tokens][64], 16-byte chunk c of token
//           t at chunk c ^ (t & 7): eight tokens of a matrix hit all banks
//   warp    kM row tiles x kN groups of 8 tokens; kTokenWarps warps beside each other
//   output  [tokens][rows + 4] F32, over the ring: stored by lanes that follow each other in a row
#pragma once

#include "kernels/cuda/gemm/fragments.cuh"
#include "kernels/cuda/gemm/store.cuh"

namespace trireme::cuda {

template <MatrixFormat kFormat_, DType kType_, int kM_, int kN_, int kTokenWarps_, int kStages_,
          MatMulMutant kMutant_ = MatMulMutant::kNone>
struct MatMulShape {
  static constexpr MatrixFormat kFormat = kFormat_;
  static constexpr DType kType = kType_;
  static constexpr int kM = kM_, kN = kN_, kTokenWarps = kTokenWarps_, kStages = kStages_;
  static constexpr MatMulMutant kMutant = kMutant_;
  static constexpr int kTokens = 8 * kN * kTokenWarps;
  static constexpr int kXBytes = kTokens * kStepCols * 2;
  static constexpr int StageBytes(int row_warps) {
    return row_warps * kM * StepBytes(kFormat) + kXBytes;
  }
  static constexpr int SharedBytes(int row_warps) {
    const int ring = kStages * StageBytes(row_warps);
    const int output = kTokens * (row_warps * kM * static_cast<int>(kTileRows) + 4) * 4;
    return ring > output ? ring : output;
  }
};

template <typename Shape>
struct MatMulCta {
  static constexpr MatrixFormat kFormat = Shape::kFormat;
  static constexpr DType kType = Shape::kType;
  static constexpr int kM = Shape::kM, kN = Shape::kN, kStages = Shape::kStages;
  static constexpr int kStepBytes = kStepBytesOf<kFormat>, kCodeBytes = kCodeBytesOf<kFormat>;
  static constexpr MatMulMutant kMutant = Shape::kMutant;

  const MatMulArgs& p;
  const uint32_t shared;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int threads = static_cast<int>(blockDim.x), warps = threads / 32;
  const int row_warps = warps / Shape::kTokenWarps;
  const int row_warp = warp / Shape::kTokenWarps, token_warp = warp % Shape::kTokenWarps;
  const int tiles = row_warps * kM, first_tile = static_cast<int>(blockIdx.y) * tiles;
  const int first_token = static_cast<int>(blockIdx.x) * Shape::kTokens;

  __device__ uint32_t Stage(int step) const {
    const int bytes = kMutant == MatMulMutant::kWrongStageStride
                          ? tiles * kStepBytes
                          : tiles * kStepBytes + Shape::kXBytes;
    return shared + static_cast<uint32_t>(step % kStages * bytes);
  }
  __device__ static uint32_t XChunk(uint32_t x, int token, int chunk) {
    const int place = kMutant == MatMulMutant::kNoSwizzle ? chunk : chunk ^ (token & 7);
    return x + static_cast<uint32_t>(token * (kStepCols * 2) + place * 16);
  }

  __device__ void LoadWeights(uint32_t stage, int step) const {
    constexpr int kPieces = kStepBytes / 16;
    for (int t = warp; t < tiles; t += warps) {
      const bool valid = first_tile + t < p.num_tiles || kMutant == MatMulMutant::kNoRowTileBound;
      const auto* from = p.weights;
      if (valid) {
        const int64_t tile = first_tile + t;
        from += (tile * p.steps + step) * kStepBytes;
      }
      const uint32_t to = stage + static_cast<uint32_t>(t * kStepBytes);
#pragma unroll
      for (int piece = 0; piece < kPieces; piece += 32) {
        if (piece + lane < kPieces) {
          const int at = (piece + lane) * 16;
          ptx::CopyAsync(to + static_cast<uint32_t>(at), from + at, valid);
        }
      }
    }
  }
  __device__ void LoadX(uint32_t to, int step) const {
    constexpr int kChunks = kStepCols / 8;
    for (int i = static_cast<int>(threadIdx.x); i < Shape::kTokens * kChunks; i += threads) {
      const int token = i / kChunks, chunk = i % kChunks, col = step * kStepCols + chunk * 8;
      const bool inside = col < p.cols || kMutant == MatMulMutant::kNoColumnTail;
      const bool valid =
          (first_token + token < p.num_tokens && inside) || kMutant == MatMulMutant::kNoZeroFill;
      const auto* from = p.x;
      if (valid) from += static_cast<int64_t>(first_token + token) * p.cols + col;
      ptx::CopyAsync(XChunk(to, token, chunk), from, valid);
    }
  }
  __device__ void Load(int step) const {
    const uint32_t stage = Stage(step);
    LoadWeights(stage, step);
    LoadX(stage + static_cast<uint32_t>(tiles * kStepBytes), step);
  }

  // x of 32 columns: [n][0, 1] are operand B of the first k step, [2, 3] of the second.
  __device__ void LoadXFragments(uint32_t x, int block, uint32_t (&b)[kN][4]) const {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const int token = (token_warp * kN + n) * 8 + lane % 8;
      ptx::LoadMatrices(b[n], XChunk(x, token, block * 4 + lane / 8));
    }
  }

  __device__ void MultiplyPlain(uint32_t weights, uint32_t x, float (&acc)[kM][kN][4]) const {
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      uint32_t b[kN][4];
      LoadXFragments(x, block, b);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const uint4 v = ptx::LoadShared16(
              weights + static_cast<uint32_t>(m * kStepBytes + (2 * block + k) * 512 + lane * 16));
          const uint32_t a[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
          for (int n = 0; n < kN; ++n) {
            ptx::MultiplyAddOf<kType>(acc[m][n], a, b[n][2 * k], b[n][2 * k + 1]);
          }
        }
      }
    }
  }

  // Sums of x over 32 columns: the product with ones. [n][i]: of token 2 (lane % 4) + i.
  __device__ static void SumX(const uint32_t (&b)[kN][4], float (&sums)[kN][2]) {
    constexpr uint32_t kOne = kType == DType::kBF16 ? 0x3f803f80u : 0x3c003c00u;
    constexpr uint32_t kOnes[4] = {kOne, kOne, kOne, kOne};
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      float sum[4];
      ptx::MultiplyOf<kType>(sum, kOnes, b[n][0], b[n][1]);
      if (kMutant != MatMulMutant::kHalfSum) {
        ptx::MultiplyAddOf<kType>(sum, kOnes, b[n][2], b[n][3]);
      }
      sums[n][0] = sum[0];
      sums[n][1] = sum[1];
    }
  }
  __device__ static float2 Scales(const uint2& scales, int block) {
    return Unpack<DType::kF16>(block == 0 ? scales.x : scales.y);
  }

  __device__ void MultiplyQuantized(uint32_t weights, uint32_t x, float (&acc)[kM][kN][4]) const {
    constexpr bool kMinima = kFormat == MatrixFormat::kQ4_1;
    constexpr bool kBytes = kFormat == MatrixFormat::kQ8_0;
    uint4 codes[kM];
    uint2 scales[kM], minima[kM];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      const uint32_t step = weights + static_cast<uint32_t>(m * kStepBytes);
      const uint32_t scale = step + static_cast<uint32_t>(kCodeBytes + lane / 4 * 8);
      if constexpr (!kBytes) codes[m] = ptx::LoadShared16(step + static_cast<uint32_t>(lane * 16));
      scales[m] = ptx::LoadShared8(scale);
      if constexpr (kMinima) minima[m] = ptx::LoadShared8(scale + kScaleBytes);
    }
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      uint32_t b[kN][4];
      LoadXFragments(x, block, b);
      float sums[kN][2];
      if constexpr (kMinima) SumX(b, sums);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        if constexpr (kBytes) {
          codes[m] = ptx::LoadShared16(
              weights + static_cast<uint32_t>(m * kStepBytes + block * 512 + lane * 16));
        }
        uint32_t a[2][4];
        Dequantize<kFormat, kType>(codes[m], block, a);
        const float2 d = Scales(scales[m], kMutant == MatMulMutant::kFirstScale ? 0 : block);
#pragma unroll
        for (int n = 0; n < kN; ++n) {
          float sum[4];
          ptx::MultiplyOf<kType>(sum, a[0], b[n][0], b[n][1]);
          ptx::MultiplyAddOf<kType>(sum, a[1], b[n][2], b[n][3]);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            acc[m][n][i] = fmaf(i < 2 ? d.x : d.y, sum[i], acc[m][n][i]);
          }
          if constexpr (kMinima) {
            const float2 least = Scales(minima[m], block);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              acc[m][n][i] = fmaf(i < 2 ? least.x : least.y, sums[n][i % 2], acc[m][n][i]);
            }
          }
        }
      }
    }
  }

  // To shared memory: 2 x 8 lanes of a store hit all banks.
  __device__ void Gather(const float (&acc)[kM][kN][4], float* output, int pitch) const {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int token = (token_warp * kN + n) * 8 + lane % 4 * 2 + i % 2;
          const int row = (row_warp * kM + m) * 16 + lane / 4 + i / 2 * 8;
          output[token * pitch + row] = acc[m][n][i];
        }
      }
    }
  }

  __device__ void Run(char* memory) const {
    float acc[kM][kN][4] = {};
#pragma unroll
    for (int step = 0; step < kStages - 1; ++step) {
      if (step < p.steps) Load(step);
      if (kMutant != MatMulMutant::kNoCommit) ptx::CommitCopies();
    }
    for (int step = 0; step < p.steps; ++step) {
      constexpr int kPending = kMutant == MatMulMutant::kLaxWait ? kStages - 1 : kStages - 2;
      ptx::WaitCopies<kPending>();
      if (kMutant != MatMulMutant::kNoBarrier) __syncthreads();
      if (step + kStages - 1 < p.steps) Load(step + kStages - 1);
      if (kMutant != MatMulMutant::kNoCommit) ptx::CommitCopies();
      const uint32_t stage = Stage(step), x = stage + static_cast<uint32_t>(tiles * kStepBytes);
      const uint32_t weights = stage + static_cast<uint32_t>(row_warp * kM * kStepBytes);
      if constexpr (kFormat == MatrixFormat::kPlain) {
        MultiplyPlain(weights, x, acc);
      } else {
        MultiplyQuantized(weights, x, acc);
      }
    }
    if (kMutant != MatMulMutant::kNoBarrierBeforeOutput) __syncthreads();
    auto* const output = reinterpret_cast<float*>(memory);
    const int pitch = tiles * 16 + 4;
    Gather(acc, output, pitch);
    if (kMutant != MatMulMutant::kNoBarrierBeforeStore) __syncthreads();
    StoreOutput<kType, Shape::kTokens, kMutant != MatMulMutant::kNoTokenBound>(
        p, output, pitch, first_tile * 16, first_token, static_cast<int>(threadIdx.x), threads);
  }
};

template <typename Shape>
__global__ void __launch_bounds__(kMaxRowWarps* Shape::kTokenWarps * 32)
    MatMulKernel(const __grid_constant__ MatMulArgs args) {
  extern __shared__ __align__(128) char memory[];
  MatMulCta<Shape>{.p = args, .shared = ptx::SharedAddress(memory)}.Run(memory);
}

template <typename Shape>
cudaError_t LaunchMatMul(const MatMulArgs& args, int row_warps, cudaStream_t stream) {
  const int shared = Shape::SharedBytes(row_warps);
  const auto kernel = reinterpret_cast<const void*>(&MatMulKernel<Shape>);
  if (shared > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (error != cudaSuccess) return error;
  }
  const int tiles = row_warps * Shape::kM;
  const dim3 grid(static_cast<unsigned>((args.num_tokens + Shape::kTokens - 1) / Shape::kTokens),
                  static_cast<unsigned>((args.num_tiles + tiles - 1) / tiles));
  void* arguments[] = {const_cast<MatMulArgs*>(&args)};
  const dim3 threads(static_cast<unsigned>(row_warps * Shape::kTokenWarps * 32));
  return cudaLaunchKernel(kernel, grid, threads, arguments, static_cast<size_t>(shared), stream);
}

// The kernels of a format and type, one for each token tile.
template <MatrixFormat kFormat, DType kType>
cudaError_t LaunchTokens(const MatMulArgs& args, MatMulTile tile, cudaStream_t stream) {
  const int warps = tile.row_warps;
  switch (tile.tokens) {
    case 8:
      return LaunchMatMul<MatMulShape<kFormat, kType, 1, 1, 1, 8>>(args, warps, stream);
    case 16:
      return LaunchMatMul<MatMulShape<kFormat, kType, 1, 2, 1, 6>>(args, warps, stream);
    case 32:
      return LaunchMatMul<MatMulShape<kFormat, kType, 1, 4, 1, 5>>(args, warps, stream);
    case 64:
      return LaunchMatMul<MatMulShape<kFormat, kType, 2, 8, 1, 3>>(args, warps, stream);
    default:
      return LaunchMatMul<MatMulShape<kFormat, kType, 2, 8, 2, 3>>(args, warps, stream);
  }
}
template <MatrixFormat kFormat>
cudaError_t LaunchFormat(DType type, const MatMulArgs& args, MatMulTile tile, cudaStream_t stream) {
  return type == DType::kBF16 ? LaunchTokens<kFormat, DType::kBF16>(args, tile, stream)
                              : LaunchTokens<kFormat, DType::kF16>(args, tile, stream);
}

}  // namespace trireme::cuda
