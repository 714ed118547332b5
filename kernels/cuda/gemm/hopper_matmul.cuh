// y^T on Hopper's warpgroups: weights are wgmma's M side, tokens its N side, whatever their number.
// Tensor copies fill a ring of stages; each consumer multiplies 64 rows of a stage.
//
//   producer, one thread   full[s] <- weights' and x's bytes    waits for empty[s]
//   consumers, 128 each    wgmma on stage s                     arrive at empty[s] when it is read
//
// A stage is given back one step late, so that one group of wgmma is always under way. The sum over
// K is one chain of wgmma, the same for every tile.
#pragma once

#include "kernels/cuda/gemm/hopper.h"
#include "kernels/cuda/gemm/store.cuh"
#include "kernels/cuda/primitives/wgmma.cuh"
#include "kernels/cuda/primitives/hopper.cuh"

namespace trireme::cuda {

template <DType kType_, int kTokens_, HopperMutant kMutant_ = HopperMutant::kNone>
struct HopperShape {
  static constexpr HopperMutant kMutant = kMutant_;
  static constexpr DType kType = kType_;
  static constexpr int kTokens = kTokens_;
  static constexpr int kRows = kTokens < 128 ? 64 : 128;
  static constexpr int kConsumers = kRows / 64;
  static constexpr int kThreads = 128 * kConsumers + 32;
  static constexpr uint32_t kWeightBytes = kRows * kStepCols * 2, kXBytes = kTokens * kStepCols * 2;
  static constexpr uint32_t kStageBytes = kWeightBytes + kXBytes;
  static constexpr int kStages = kTokens == 256 ? 4 : kTokens == 128 ? 6 : 10;
};

template <typename Shape>
struct alignas(1024) HopperShared {
  char ring[Shape::kStages][Shape::kStageBytes];  // weights | x; at the end the output
  uint64_t full[Shape::kStages], empty[Shape::kStages];
};

template <typename Shape>
__device__ __forceinline__ void Produce(HopperShared<Shape>& shared, const HopperArgs& args) {
  for (int step = 0; step < args.shapes.steps; ++step) {
    const int stage = step % Shape::kStages, round = step / Shape::kStages;
    const uint32_t full = hopper::SharedAddress(&shared.full[stage]);
    const uint32_t to = hopper::SharedAddress(shared.ring[stage]);
    // The first round passes.
    if (Shape::kMutant != HopperMutant::kNoWaitForEmpty) {
      hopper::WaitBarrier(hopper::SharedAddress(&shared.empty[stage]), (round & 1) ^ 1);
    }
    hopper::ArriveExpectBytes(full, Shape::kStageBytes);
    hopper::LoadTile(to, &args.weights, step * kStepCols,
                     static_cast<int>(blockIdx.y) * Shape::kRows, full);
    hopper::LoadTile(to + Shape::kWeightBytes, &args.x, step * kStepCols,
                     static_cast<int>(blockIdx.x) * Shape::kTokens, full);
  }
}

template <typename Shape>
__device__ __forceinline__ void Consume(HopperShared<Shape>& shared, int consumer, int steps,
                                        float (&d)[Shape::kTokens / 2]) {
  const bool signals = threadIdx.x % 128 == 0;
  for (int step = 0; step < steps; ++step) {
    const int stage = step % Shape::kStages;
    hopper::WaitBarrier(hopper::SharedAddress(&shared.full[stage]), step / Shape::kStages & 1);
    const uint32_t ring = hopper::SharedAddress(shared.ring[stage]);
    const uint32_t weights = ring + static_cast<uint32_t>(consumer * 64 * kStepCols * 2);
    const uint32_t x = ring + Shape::kWeightBytes;
    if (Shape::kMutant != HopperMutant::kNoWgmmaFence) hopper::WgmmaFence();
#pragma unroll
    for (uint32_t k = 0; k < kStepCols / 16; ++k) {
      Wgmma<Shape::kType, Shape::kTokens>::Multiply(d, hopper::Descriptor(weights + 32 * k),
                                                    hopper::Descriptor(x + 32 * k),
                                                    step > 0 || k > 0);
    }
    hopper::WgmmaCommit();
    hopper::WgmmaWait<1>();
    const int read = Shape::kMutant == HopperMutant::kGivesBackEarly ? step : step - 1;
    if (read >= 0 && signals) {
      hopper::Arrive(hopper::SharedAddress(&shared.empty[read % Shape::kStages]));
    }
  }
  if (Shape::kMutant != HopperMutant::kNoLastWait) hopper::WgmmaWait<0>();
}

template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    MatMulHopperKernel(const __grid_constant__ HopperArgs args) {
  extern __shared__ __align__(1024) char memory[];
  auto& shared = *reinterpret_cast<HopperShared<Shape>*>(memory);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      hopper::InitBarrier(hopper::SharedAddress(&shared.full[stage]), 1);
      hopper::InitBarrier(hopper::SharedAddress(&shared.empty[stage]), Shape::kConsumers);
    }
    hopper::FenceBarrierInit();
  }
  __syncthreads();
  constexpr int kConsumerThreads = 128 * Shape::kConsumers;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread >= kConsumerThreads) {
    if (thread == kConsumerThreads) Produce<Shape>(shared, args);
    return;
  }
  float d[Shape::kTokens / 2];
  Consume<Shape>(shared, thread / 128, args.shapes.steps, d);

  if (Shape::kMutant != HopperMutant::kNoBarrierBeforeOutput) {
    hopper::NamedBarrier(1, kConsumerThreads);  // all have read the ring
  }
  constexpr int kPitch = Shape::kRows + 4;
  static_assert(sizeof(float) * kPitch * Shape::kTokens <= sizeof(shared.ring));
  auto* const output = reinterpret_cast<float*>(memory);
  const int row = thread / 32 * 16 + thread % 32 / 4;
#pragma unroll
  for (int i = 0; i < Shape::kTokens / 2; ++i) {
    const int token = i / 4 * 8 + thread % 4 * 2 + i % 2;
    output[token * kPitch + row + i / 2 % 2 * 8] = d[i];
  }
  if (Shape::kMutant != HopperMutant::kNoBarrierBeforeStore) {
    hopper::NamedBarrier(1, kConsumerThreads);
  }
  StoreOutput<Shape::kType, Shape::kTokens>(
      args.shapes, output, kPitch, static_cast<int>(blockIdx.y) * Shape::kRows,
      static_cast<int>(blockIdx.x) * Shape::kTokens, thread, kConsumerThreads);
}

template <typename Shape>
cudaError_t LaunchHopperShape(const HopperArgs& args, cudaStream_t stream) {
  static_assert(Shape::kRows == HopperRows(Shape::kTokens));
  const auto kernel = reinterpret_cast<const void*>(&MatMulHopperKernel<Shape>);
  const auto shared = static_cast<int>(sizeof(HopperShared<Shape>));
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  if (error != cudaSuccess) return error;
  const MatMulArgs& p = args.shapes;
  const dim3 grid(static_cast<unsigned>((p.num_tokens + Shape::kTokens - 1) / Shape::kTokens),
                  static_cast<unsigned>((p.rows + Shape::kRows - 1) / Shape::kRows));
  void* arguments[] = {const_cast<HopperArgs*>(&args)};
  return cudaLaunchKernel(kernel, grid, dim3(Shape::kThreads), arguments,
                          static_cast<size_t>(shared), stream);
}

}  // namespace trireme::cuda
