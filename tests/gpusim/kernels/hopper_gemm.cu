// C [m][n] = A [m][k] B [n][k]^T in bf16, sums in float: tensor copies fill a ring of stages for
// two warpgroups that multiply. m, n, k are any that tensor maps take: what lies outside reads as
// zero and is not written.
//
//   producer, one thread      full[s] <- 2 tiles' bytes      waits for empty[s]
//   consumers, 2 x 128        wgmma on stage s               wait for full[s]; arrive at empty[s]
//   when it is read
//
// A stage is given back one step late, so that one group of wgmma is always under way.
#include <cuda_bf16.h>

#include "tests/gpusim/kernels/hopper_gemm.h"
#include "tests/gpusim/kernels/hopper_primitives.cuh"

namespace trireme::hopper {

constexpr int kBlockM = 128, kBlockN = 128, kBlockK = 64;  // 64 bf16 are one line of the swizzle
constexpr int kStages = 4;
constexpr int kConsumers = 2;  // warpgroups, of 64 rows each
constexpr int kThreads = 128 * (kConsumers + 1);
constexpr uint32_t kBytesA = kBlockM * kBlockK * 2, kBytesB = kBlockN * kBlockK * 2;
constexpr uint32_t kBytesC = 64 * kBlockN * 2;  // of one consumer: two halves of 64 columns

struct alignas(1024) SharedMemory {
  char a[kStages][kBytesA];
  char b[kStages][kBytesB];
  char c[kConsumers][kBytesC];
  uint64_t full[kStages], empty[kStages];
};
static_assert(sizeof(SharedMemory) == kGemmSharedBytes);

__device__ __forceinline__ void Produce(SharedMemory& shared, const CUtensorMap* map_a,
                                        const CUtensorMap* map_b, int steps) {
  for (int step = 0; step < steps; ++step) {
    const int stage = step % kStages, round = step / kStages;
    const uint32_t full = SharedAddress(&shared.full[stage]);
    WaitBarrier(SharedAddress(&shared.empty[stage]), (round & 1) ^ 1);  // the first round passes
    ArriveExpectBytes(full, kBytesA + kBytesB);
    const int k = step * kBlockK;
    LoadTile(SharedAddress(shared.a[stage]), map_a, k, blockIdx.y * kBlockM, full);
    LoadTile(SharedAddress(shared.b[stage]), map_b, k, blockIdx.x * kBlockN, full);
  }
}

__device__ __forceinline__ void Multiply(SharedMemory& shared, int consumer, int steps,
                                         float (&d)[64]) {
  const bool signals = threadIdx.x % 128 == 0;
  for (int step = 0; step < steps; ++step) {
    const int stage = step % kStages;
    WaitBarrier(SharedAddress(&shared.full[stage]), step / kStages & 1);
    const uint32_t a = SharedAddress(shared.a[stage]) + consumer * 64 * kBlockK * 2;
    const uint32_t b = SharedAddress(shared.b[stage]);
    WgmmaFence();
#pragma unroll
    for (int i = 0; i < kBlockK / 16; ++i) {
      Wgmma64x128x16(d, Descriptor(a + 32 * i), Descriptor(b + 32 * i), step > 0 || i > 0);
    }
    WgmmaCommit();
    WgmmaWait<1>();
    if (step > 0 && signals) Arrive(SharedAddress(&shared.empty[(step - 1) % kStages]));
  }
  WgmmaWait<0>();
}

// Fragments to shared memory as the tensor map of C has it: 64 columns a line, 16-byte chunks
// swizzled.
__device__ __forceinline__ void Store(SharedMemory& shared, const CUtensorMap* map_c, int consumer,
                                      const float (&d)[64]) {
  const int thread = threadIdx.x % 128, lane = thread % 32;
  char* const tile = shared.c[consumer];
#pragma unroll
  for (int i = 0; i < 64; i += 2) {
    const int row = thread / 32 * 16 + lane / 4 + 8 * (i / 2 % 2);
    const int chunk = i / 4;  // of 8 columns
    char* const line = tile + chunk / 8 * (kBytesC / 2) + row * 128;
    *reinterpret_cast<__nv_bfloat162*>(line + ((chunk % 8) ^ (row % 8)) * 16 + lane % 4 * 4) =
        __floats2bfloat162_rn(d[i], d[i + 1]);
  }
  FenceProxyAsync();
  NamedBarrier(1 + consumer, 128);
  if (thread != 0) return;
  const int row = blockIdx.y * kBlockM + consumer * 64, column = blockIdx.x * kBlockN;
  StoreTile(map_c, column, row, SharedAddress(tile));
  StoreTile(map_c, column + 64, row, SharedAddress(tile + kBytesC / 2));
  CommitStores();
  WaitStoresRead();
}

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    HopperGemm(const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_b,
               const __grid_constant__ CUtensorMap map_c, int steps) {
  extern __shared__ __align__(1024) char memory[];
  SharedMemory& shared = *reinterpret_cast<SharedMemory*>(memory);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      InitBarrier(SharedAddress(&shared.full[stage]), 1);
      InitBarrier(SharedAddress(&shared.empty[stage]), kConsumers);
    }
    FenceBarrierInit();
  }
  __syncthreads();
  const int warpgroup = threadIdx.x / 128;
  if (warpgroup == kConsumers) {
    GiveRegisters<40>();
    if (threadIdx.x == kConsumers * 128) Produce(shared, &map_a, &map_b, steps);
    return;
  }
  TakeRegisters<232>();
  float d[64];
  Multiply(shared, warpgroup, steps, d);
  Store(shared, &map_c, warpgroup, d);
}

namespace {

// Boxes of `box_rows` rows and 64 columns, a line of the swizzle.
cudaError_t MapMatrix(const __nv_bfloat16* data, int rows, int columns, int box_rows,
                      CUtensorMap* map) {
  // The driver's function, without linking the driver.
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                             12000, cudaEnableDefault, &found);
  if (error != cudaSuccess) return error;
  if (found != cudaDriverEntryPointSuccess) return cudaErrorNotSupported;
  const cuuint64_t size[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t stride_bytes[] = {static_cast<cuuint64_t>(columns) * sizeof(*data)};
  const cuuint32_t box[] = {kBlockK, static_cast<cuuint32_t>(box_rows)}, step[] = {1, 1};
  const CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function)(
      map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<__nv_bfloat16*>(data), size,
      stride_bytes, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace

cudaError_t LaunchGemm(const __nv_bfloat16* a, const __nv_bfloat16* b, __nv_bfloat16* c, int m,
                       int n, int k, cudaStream_t stream) {
  CUtensorMap map_a, map_b, map_c;
  cudaError_t error = MapMatrix(a, m, k, kBlockM, &map_a);
  if (error == cudaSuccess) error = MapMatrix(b, n, k, kBlockN, &map_b);
  if (error == cudaSuccess) error = MapMatrix(c, m, n, 64, &map_c);
  if (error == cudaSuccess) {
    error = cudaFuncSetAttribute(HopperGemm, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(kGemmSharedBytes));
  }
  if (error != cudaSuccess) return error;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3((n + kBlockN - 1) / kBlockN, (m + kBlockM - 1) / kBlockM);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = kGemmSharedBytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, HopperGemm, map_a, map_b, map_c, (k + kBlockK - 1) / kBlockK);
}

}  // namespace trireme::hopper
