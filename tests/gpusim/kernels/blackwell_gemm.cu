// C [m][n] = A [m][k] B [n][k]^T with sums in float, C in bf16: of bf16, of e4m3, and of e2m1 with
// a ue4m3 scale for 16 elements (NVFP4). CTAs are persistent; tensor copies fill a ring of stages,
// one thread multiplies, four warps write the result of the tile before.
//
//   producer    full[s] <- a stage's bytes              waits for empty[s]
//   multiplier  tcgen05.mma on stage s, commits to      waits for full[s], and for sums_free[i]
//               empty[s], at the tile's end to          before a tile
//               sums_full[i]
//   writers     tensor memory to C, arrive at           wait for sums_full[i]
//               sums_free[i] when they have read
#include <cuda_bf16.h>

#include "tests/gpusim/kernels/blackwell_gemm.h"
#include "tests/gpusim/kernels/blackwell_primitives.cuh"

namespace trireme::blackwell {

using namespace hopper;  // mbarriers and tensor copies

constexpr int kTile = 128;  // of m and of n
constexpr int kLine = 128;  // bytes of K in a stage, a line of the swizzle
constexpr int kStages = 3;
constexpr int kWriters = 4;  // warps, one for each 32 lanes of tensor memory
constexpr int kThreads = 32 * (kWriters + 2);
constexpr uint32_t kTileBytes = kTile * kLine;
constexpr int kSteps = kLine / 32;           // operations on a stage
constexpr uint32_t kScaleBytes = kTile * 4;  // of one operation and operand
constexpr uint32_t kStageScales = kSteps * kScaleBytes;

struct alignas(1024) SharedMemory {
  char a[kStages][kTileBytes];
  char b[kStages][kTileBytes];
  alignas(128) char scales_a[kStages][kStageScales];
  alignas(128) char scales_b[kStages][kStageScales];
  uint64_t full[kStages], empty[kStages], sums_full[2], sums_free[2];
  uint32_t tensor;
};
static_assert(sizeof(SharedMemory) == kGemmSharedBytes);

struct Shape {
  int m, n, lines;  // lines: of 128 bytes along K
  int tiles_n, tiles;
};

struct Scales {  // by tile of 128 rows and line: kSteps blocks of 32 rows x 16 bytes
  const char* a;
  const char* b;
};

__device__ __forceinline__ void LoadScales(uint32_t to, const char* from, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(kStageScales), "r"(barrier)
      : "memory");
}

template <Kind kind>
__device__ __forceinline__ void Produce(SharedMemory& shared, const CUtensorMap* map_a,
                                        const CUtensorMap* map_b, const Scales& scales,
                                        const Shape& shape) {
  constexpr bool kScaled = kind == Kind::kNvf4;
  constexpr int kElements = kind == Kind::kBf16 ? kLine / 2 : kLine;  // of the tensor map, a line
  constexpr uint32_t kBytes = 2 * kTileBytes + (kScaled ? 2 * kStageScales : 0);
  int step = 0;
  for (int tile = blockIdx.x; tile < shape.tiles; tile += gridDim.x) {
    const int row = tile / shape.tiles_n, column = tile % shape.tiles_n;
    for (int line = 0; line < shape.lines; ++line, ++step) {
      const int stage = step % kStages;
      const uint32_t full = SharedAddress(&shared.full[stage]);
      WaitBarrier(SharedAddress(&shared.empty[stage]), (step / kStages & 1) ^ 1);
      ArriveExpectBytes(full, kBytes);
      LoadTile(SharedAddress(shared.a[stage]), map_a, line * kElements, row * kTile, full);
      LoadTile(SharedAddress(shared.b[stage]), map_b, line * kElements, column * kTile, full);
      if constexpr (kScaled) {
        const size_t of_row = static_cast<size_t>(row) * shape.lines + line;
        const size_t of_column = static_cast<size_t>(column) * shape.lines + line;
        LoadScales(SharedAddress(shared.scales_a[stage]), scales.a + of_row * kStageScales, full);
        LoadScales(SharedAddress(shared.scales_b[stage]), scales.b + of_column * kStageScales,
                   full);
      }
    }
  }
}

// Columns of tensor memory: two tiles of sums, then the scales of one stage.
constexpr uint32_t kScalesA = 2 * kTile, kScalesB = kScalesA + 4 * kSteps;

template <Kind kind>
__device__ __forceinline__ void Multiply(SharedMemory& shared, uint32_t tensor,
                                         const Shape& shape) {
  constexpr uint32_t kInstruction = InstructionDescriptor(kind, kTile, kTile);
  int step = 0, round = 0;
  for (int tile = blockIdx.x; tile < shape.tiles; tile += gridDim.x, ++round) {
    const int sums = round % 2;
    WaitBarrier(SharedAddress(&shared.sums_free[sums]), (round / 2 & 1) ^ 1);
    FenceAfterSync();
    const uint32_t d = tensor + sums * kTile;
    for (int line = 0; line < shape.lines; ++line, ++step) {
      const int stage = step % kStages;
      WaitBarrier(SharedAddress(&shared.full[stage]), step / kStages & 1);
      FenceAfterSync();
      const uint32_t a = SharedAddress(shared.a[stage]), b = SharedAddress(shared.b[stage]);
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        const uint32_t scales_a = tensor + kScalesA + 4 * i, scales_b = tensor + kScalesB + 4 * i;
        if constexpr (kind == Kind::kNvf4) {
          CopyScales(scales_a,
                     ScaleDescriptor(SharedAddress(shared.scales_a[stage]) + i * kScaleBytes));
          CopyScales(scales_b,
                     ScaleDescriptor(SharedAddress(shared.scales_b[stage]) + i * kScaleBytes));
        }
        MultiplyTiles<kind>(d, OperandDescriptor(a + 32 * i), OperandDescriptor(b + 32 * i),
                            kInstruction, line > 0 || i > 0, scales_a, scales_b);
      }
      Commit(SharedAddress(&shared.empty[stage]));
    }
    Commit(SharedAddress(&shared.sums_full[sums]));
  }
}

// n is a multiple of 8.
__device__ __forceinline__ void WriteTiles(SharedMemory& shared, uint32_t tensor, __nv_bfloat16* c,
                                           const Shape& shape) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int round = 0;
  for (int tile = blockIdx.x; tile < shape.tiles; tile += gridDim.x, ++round) {
    const int sums = round % 2;
    WaitBarrier(SharedAddress(&shared.sums_full[sums]), round / 2 & 1);
    FenceAfterSync();
    const int row = tile / shape.tiles_n * kTile + 32 * warp + lane;
    for (int part = 0; part < kTile / 32; ++part) {
      uint32_t d[32];
      LoadColumns(d, tensor + (static_cast<uint32_t>(32 * warp) << 16) + sums * kTile + 32 * part);
      WaitLoads();
      const int column = tile % shape.tiles_n * kTile + 32 * part;
#pragma unroll
      for (int i = 0; i < 32; i += 8) {
        if (row >= shape.m || column + i >= shape.n) continue;
        __nv_bfloat162 out[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          out[j] = __floats2bfloat162_rn(__uint_as_float(d[i + 2 * j]),
                                         __uint_as_float(d[i + 2 * j + 1]));
        }
        *reinterpret_cast<uint4*>(c + static_cast<size_t>(row) * shape.n + column + i) =
            *reinterpret_cast<const uint4*>(out);
      }
    }
    FenceBeforeSync();
    __syncwarp();
    if (lane == 0) Arrive(SharedAddress(&shared.sums_free[sums]));
  }
}

template <Kind kind>
__device__ __forceinline__ void RunGemm(const CUtensorMap* map_a, const CUtensorMap* map_b,
                                        __nv_bfloat16* c, const Scales& scales,
                                        const Shape& shape) {
  constexpr int kColumns = kind == Kind::kNvf4 ? 512 : 256;
  extern __shared__ __align__(1024) char memory[];
  SharedMemory& shared = *reinterpret_cast<SharedMemory*>(memory);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      InitBarrier(SharedAddress(&shared.full[stage]), 1);
      InitBarrier(SharedAddress(&shared.empty[stage]), 1);
    }
    for (int i = 0; i < 2; ++i) {
      InitBarrier(SharedAddress(&shared.sums_full[i]), 1);
      InitBarrier(SharedAddress(&shared.sums_free[i]), kWriters);
    }
    FenceBarrierInit();
  }
  if (warp == kWriters) AllocateColumns<kColumns>(SharedAddress(&shared.tensor));
  FenceBeforeSync();
  __syncthreads();
  FenceAfterSync();
  const uint32_t tensor = shared.tensor;
  if (warp == kWriters) {
    if (lane == 0) Multiply<kind>(shared, tensor, shape);
  } else if (warp == kWriters + 1) {
    if (lane == 0) Produce<kind>(shared, map_a, map_b, scales, shape);
  } else {
    WriteTiles(shared, tensor, c, shape);
  }
  __syncwarp();
  FenceBeforeSync();
  __syncthreads();
  FenceAfterSync();
  if (warp == kWriters) FreeColumns<kColumns>(tensor);
}

#define TRIREME_GEMM(name, kind)                                                                 \
  extern "C" __global__ void __launch_bounds__(kThreads, 1)                                      \
      name(const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_b, \
           __nv_bfloat16* c, Scales scales, Shape shape) {                                       \
    RunGemm<kind>(&map_a, &map_b, c, scales, shape);                                             \
  }
TRIREME_GEMM(BlackwellGemmBf16, Kind::kBf16)
TRIREME_GEMM(BlackwellGemmE4m3, Kind::kE4m3)
TRIREME_GEMM(BlackwellGemmNvf4, Kind::kNvf4)
#undef TRIREME_GEMM

namespace {

int Tiles(int size) { return (size + kTile - 1) / kTile; }

// Boxes of kTile rows and a line of bytes.
template <Kind kind>
cudaError_t MapMatrix(const void* data, int rows, int row_bytes, CUtensorMap* map) {
  constexpr int kElementBytes = kind == Kind::kBf16 ? 2 : 1;
  // The driver's function, without linking the driver.
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                             12000, cudaEnableDefault, &found);
  if (error != cudaSuccess) return error;
  if (found != cudaDriverEntryPointSuccess) return cudaErrorNotSupported;
  const cuuint64_t size[] = {static_cast<cuuint64_t>(row_bytes / kElementBytes),
                             static_cast<cuuint64_t>(rows)};
  const cuuint64_t stride_bytes[] = {static_cast<cuuint64_t>(row_bytes)};
  const cuuint32_t box[] = {kLine / kElementBytes, kTile}, step[] = {1, 1};
  const CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function)(
      map, kind == Kind::kBf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_UINT8,
      2, const_cast<void*>(data), size, stride_bytes, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

template <Kind kind, typename Kernel>
cudaError_t Launch(Kernel kernel, const Gemm& gemm, int ctas, cudaStream_t stream) {
  constexpr int kBits = kind == Kind::kBf16 ? 16 : kind == Kind::kE4m3 ? 8 : 4;
  const int row_bytes = gemm.k * kBits / 8, lines = (row_bytes + kLine - 1) / kLine;
  CUtensorMap map_a, map_b;
  cudaError_t error = MapMatrix<kind>(gemm.a, gemm.m, row_bytes, &map_a);
  if (error == cudaSuccess) error = MapMatrix<kind>(gemm.b, gemm.n, row_bytes, &map_b);
  if (error == cudaSuccess) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(kGemmSharedBytes));
  }
  if (error != cudaSuccess) return error;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(ctas);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = kGemmSharedBytes;
  config.stream = stream;
  const Scales scales = {static_cast<const char*>(gemm.scales_a),
                         static_cast<const char*>(gemm.scales_b)};
  const Shape shape = {gemm.m, gemm.n, lines, Tiles(gemm.n), Tiles(gemm.n) * Tiles(gemm.m)};
  return cudaLaunchKernelEx(&config, kernel, map_a, map_b, gemm.c, scales, shape);
}

}  // namespace

cudaError_t LaunchGemmBf16(const Gemm& gemm, int ctas, cudaStream_t stream) {
  return Launch<Kind::kBf16>(BlackwellGemmBf16, gemm, ctas, stream);
}
cudaError_t LaunchGemmE4m3(const Gemm& gemm, int ctas, cudaStream_t stream) {
  return Launch<Kind::kE4m3>(BlackwellGemmE4m3, gemm, ctas, stream);
}
cudaError_t LaunchGemmNvf4(const Gemm& gemm, int ctas, cudaStream_t stream) {
  return Launch<Kind::kNvf4>(BlackwellGemmNvf4, gemm, ctas, stream);
}

}  // namespace trireme::blackwell
