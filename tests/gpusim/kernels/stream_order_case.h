// Two streams that do not wait for the default one, and three buffers.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "tests/gpusim/gpusim.h"
#include "tests/gpusim/kernels/stream_order.h"

namespace trireme::gpusim {

// Whether a finding is said must not depend on when streams run.
inline constexpr uint64_t kOrderSeeds = 6;

class StreamOrderCase : public testing::Test {
 protected:
  static constexpr int kN = 1000;
  static constexpr size_t kBytes = kN * sizeof(uint32_t);

  StreamOrderCase() {
    for (uint32_t** buffer : {&a_, &b_, &c_}) cudaMalloc(buffer, kBytes);
    cudaMallocHost(&locked_, kBytes);
    for (cudaStream_t* stream : {&first_, &second_}) {
      cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking);
    }
    cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
    Reset(1);
  }
  ~StreamOrderCase() override {
    cudaDeviceSynchronize();
    cudaEventDestroy(event_);
    for (cudaStream_t stream : {first_, second_}) cudaStreamDestroy(stream);
    for (uint32_t* buffer : {a_, b_, c_}) cudaFree(buffer);
    cudaFreeHost(locked_);
    TakeFindings();
  }

  // Everything before is known to what follows.
  void Reset(uint64_t seed) {
    SetSeed(seed);
    for (uint32_t* buffer : {a_, b_, c_}) cudaMemset(buffer, 0, kBytes);
    cudaDeviceSynchronize();
    EXPECT_THAT(TakeFindings(), testing::IsEmpty());
  }
  // `before` of the first stream, `after` of the second.
  void SecondWaits() {
    ASSERT_EQ(cudaEventRecord(event_, first_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(second_, event_, 0), cudaSuccess);
  }
  static std::vector<Finding> AfterAll() {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    return TakeFindings();
  }
  // What they do in two streams, with every seed.
  template <typename F>
  void ExpectFinding(F&& work) {
    for (uint64_t seed = 1; seed <= kOrderSeeds; ++seed) {
      Reset(seed);
      work();
      EXPECT_THAT(AfterAll(), testing::Contains(testing::Field(&Finding::kind,
                                                               FindingKind::kMissingStreamOrder)));
    }
  }
  template <typename F>
  void ExpectNone(F&& work) {
    for (uint64_t seed = 1; seed <= kOrderSeeds; ++seed) {
      Reset(seed);
      work();
      EXPECT_THAT(AfterAll(), testing::IsEmpty());
    }
  }
  // Finding without an event between the two, none with it.
  template <typename F, typename G>
  void ExpectEventIsNeeded(F&& before, G&& after) {
    ExpectFinding([&] { before(), after(); });
    ExpectNone([&] { before(), SecondWaits(), after(); });
  }

  uint32_t *a_ = nullptr, *b_ = nullptr, *c_ = nullptr;
  uint32_t* locked_ = nullptr;  // page-locked
  cudaStream_t first_ = nullptr, second_ = nullptr;
  cudaEvent_t event_ = nullptr;
};

}  // namespace trireme::gpusim
