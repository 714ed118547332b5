// CTA b of every rank has rows b, b + kAllReduceCtas ..., so it waits for CTA b of its peers only.
#pragma once

#include "kernels/cuda/comm/all_reduce.h"
#include "kernels/cuda/comm/mutant.h"
#include "kernels/cuda/fused/normalize_row.cuh"

namespace trireme::cuda {

__device__ inline void StoreRelease(uint32_t* to, uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}
__device__ inline uint32_t LoadAcquire(const uint32_t* from) {
  uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

// What CTA b of a rank did before its `phase` of this epoch is seen by CTA b of all ranks after it.
__device__ inline void Meet(const Peers& peers, uint32_t epoch, int phase) {
  __syncthreads();
  if (static_cast<int>(threadIdx.x) < peers.world) {
    const auto reached_by = [&](int rank) {
      return kAllReduceCtas + static_cast<int>(blockIdx.x) * 2 * kMaxPeers + phase * kMaxPeers +
             rank;
    };
    const int peer = static_cast<int>(threadIdx.x);
    StoreRelease(peers.flags[peer] + reached_by(peers.rank), epoch);
    const uint32_t* const reached = peers.flags[peers.rank] + reached_by(peer);
    // Epochs wrap around.
    while (static_cast<int32_t>(LoadAcquire(reached) - epoch) < 0) {
      if (peers.abort != nullptr && LoadAcquire(peers.abort) != 0) break;
    }
  }
  __syncthreads();
}

// Vector `at` of all ranks' messages, in their order.
template <DType kType, AllReduceMutant kMutant>
__device__ uint2 SumOfRanks(const Peers& peers, int64_t at) {
  float4 sum = {0, 0, 0, 0};
#pragma unroll
  for (int rank = 0; rank < kMaxPeers; ++rank) {
    if (rank >= peers.world) break;
    int from = rank;
    if constexpr (kMutant == AllReduceMutant::kOwnFirst) from = (rank + peers.rank) % peers.world;
    const float4 v = UnpackVector<kType>(static_cast<const uint2*>(peers.in[from])[at]);
    sum = {sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w};
    if constexpr (kMutant == AllReduceMutant::kRoundsTwice) {
      sum = UnpackVector<kType>({Pack<kType>(sum.x, sum.y), Pack<kType>(sum.z, sum.w)});
    }
  }
  return {Pack<kType>(sum.x, sum.y), Pack<kType>(sum.z, sum.w)};
}

template <DType kType, bool kOneShot, int kVectors, AllReduceMutant kMutant>
__global__ void __launch_bounds__(kMaxThreads<kVectors>, 1)
    AllReduceRows(const __grid_constant__ Peers peers, float4* x, const float4* gain, float eps,
                  int rows, int vectors, uint2* y) {
  __shared__ float sums[32];
  uint32_t* const last_epoch = peers.flags[peers.rank] + blockIdx.x;
  const uint32_t epoch = *last_epoch + 1;
  if constexpr (kMutant != AllReduceMutant::kNoFirstMeeting) Meet(peers, epoch, 0);
  const int share = (vectors + peers.world - 1) / peers.world;  // of a row, for two-shot
  if constexpr (!kOneShot) {
    const int first = share * peers.rank, end = min(first + share, vectors);
    uint2* const mine = static_cast<uint2*>(peers.shares[peers.rank]);
    for (int row = static_cast<int>(blockIdx.x); row < rows; row += kAllReduceCtas) {
      for (int i = first + static_cast<int>(threadIdx.x); i < end;
           i += static_cast<int>(blockDim.x)) {
        const int64_t at = int64_t{row} * vectors + i;
        mine[at] = SumOfRanks<kType, kMutant>(peers, at);
      }
    }
    if constexpr (kMutant != AllReduceMutant::kNoSecondMeeting) Meet(peers, epoch, 1);
  }
  for (int row = static_cast<int>(blockIdx.x); row < rows; row += kAllReduceCtas) {
    const int64_t start = int64_t{row} * vectors;
    const auto delta = [&](int i) {
      if constexpr (kOneShot) {
        return UnpackVector<kType>(SumOfRanks<kType, kMutant>(peers, start + i));
      }
      return UnpackVector<kType>(static_cast<const uint2*>(peers.shares[i / share])[start + i]);
    };
    NormalizeRow<kType, true, kVectors>(x + start, delta, gain, eps, vectors, y + start, sums);
    __syncthreads();  // `sums` is free again
  }
  if (kMutant != AllReduceMutant::kForgetsEpoch && threadIdx.x == 0) *last_epoch = epoch;
}

template <DType kType, int kVectors, AllReduceMutant kMutant = AllReduceMutant::kNone>
cudaError_t LaunchAllReduce(const Peers& peers, bool one_shot, unsigned threads, float* x,
                            const float* gain, float eps, int64_t rows, int64_t cols, void* y,
                            cudaStream_t stream) {
  cudaLaunchAttribute cooperative;
  cooperative.id = cudaLaunchAttributeCooperative;
  cooperative.val.cooperative = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(rows < kAllReduceCtas ? rows : kAllReduceCtas));
  config.blockDim = dim3(threads);
  config.stream = stream;
  config.attrs = &cooperative;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config,
                            one_shot ? AllReduceRows<kType, true, kVectors, kMutant>
                                     : AllReduceRows<kType, false, kVectors, kMutant>,
                            peers, reinterpret_cast<float4*>(x),
                            reinterpret_cast<const float4*>(gain), eps, static_cast<int>(rows),
                            static_cast<int>(cols / kVector), static_cast<uint2*>(y));
}

}  // namespace trireme::cuda
