#include "tests/gpusim/kernels/vector_add.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/gpusim/gpusim.h"

namespace trireme::gpusim {
namespace {

constexpr int kN = 1000;

// [kN] on the device.
struct Buffer {
  Buffer() { EXPECT_EQ(cudaMalloc(&data, kN * sizeof(float)), cudaSuccess); }
  ~Buffer() { cudaFree(data); }
  void Count(float step) {
    std::vector<float> values(kN);
    for (int i = 0; i < kN; ++i) values[static_cast<size_t>(i)] = step * static_cast<float>(i);
    EXPECT_EQ(cudaMemcpy(data, values.data(), kN * sizeof(float), cudaMemcpyDefault), cudaSuccess);
  }
  std::vector<float> Values() const {
    std::vector<float> values(kN);
    EXPECT_EQ(cudaMemcpy(values.data(), data, kN * sizeof(float), cudaMemcpyDefault), cudaSuccess);
    return values;
  }
  float* data = nullptr;
};

class VectorAddTest : public testing::Test {
 protected:
  VectorAddTest() {
    a_.Count(1);
    b_.Count(2);
  }
  void TearDown() override { EXPECT_THAT(TakeFindings(), testing::IsEmpty()); }
  Buffer a_, b_, sum_;
};

TEST_F(VectorAddTest, EveryElementIsTheSum) {
  ASSERT_EQ(LaunchVectorAdd(a_.data, b_.data, sum_.data, kN, AddMutant::kNone, nullptr),
            cudaSuccess);
  const auto values = sum_.Values();
  for (int i = 0; i < kN; ++i) {
    ASSERT_EQ(values[static_cast<size_t>(i)], 3 * static_cast<float>(i) + 0.5f);
  }
  const Counters counters = CountersOfLastLaunch();
  EXPECT_EQ(counters.global_sectors, 3u * kN * 4 / 32);
  EXPECT_EQ(counters.global_sectors, counters.global_sectors_min);
}

TEST_F(VectorAddTest, AConstantOfTheModuleCanBeSet) {
  ASSERT_EQ(SetBias(100), cudaSuccess);
  ASSERT_EQ(LaunchVectorAdd(a_.data, b_.data, sum_.data, kN, AddMutant::kNone, nullptr),
            cudaSuccess);
  EXPECT_EQ(sum_.Values()[7], 121);
  ASSERT_EQ(SetBias(0.5f), cudaSuccess);
}

TEST_F(VectorAddTest, AGraphRunsWhatWasCaptured) {
  cudaStream_t stream, side;
  cudaEvent_t fork, join;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaStreamCreate(&side), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&fork), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&join), cudaSuccess);
  Buffer other, all;
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(fork, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(side, fork, 0), cudaSuccess);
  LaunchVectorAdd(a_.data, b_.data, sum_.data, kN, AddMutant::kNone, stream);
  LaunchVectorAdd(b_.data, b_.data, other.data, kN, AddMutant::kNone, side);
  ASSERT_EQ(cudaEventRecord(join, side), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(stream, join, 0), cudaSuccess);
  LaunchVectorAdd(sum_.data, other.data, all.data, kN, AddMutant::kNone, stream);
  cudaGraph_t graph;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  cudaGraphExec_t exec;
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  for (int i = 0; i < 4; ++i) {
    a_.Count(static_cast<float>(i));  // the graph reads what is there when it runs
    ASSERT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    EXPECT_EQ(all.Values()[10], static_cast<float>(i) * 10 + 20 + 0.5f + 40 + 0.5f + 0.5f);
  }
  ASSERT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  ASSERT_EQ(cudaEventDestroy(fork), cudaSuccess);
  ASSERT_EQ(cudaEventDestroy(join), cudaSuccess);
  ASSERT_EQ(cudaStreamDestroy(side), cudaSuccess);
  ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(VectorAddTest, AStreamThatWasNotJoinedBreaksTheCapture) {
  cudaStream_t stream, side;
  cudaEvent_t fork;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaStreamCreate(&side), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&fork), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(fork, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(side, fork, 0), cudaSuccess);
  LaunchVectorAdd(a_.data, b_.data, sum_.data, kN, AddMutant::kNone, side);
  cudaGraph_t graph;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnjoined);
  cudaGetLastError();
  cudaEventDestroy(fork);
  cudaStreamDestroy(side);
  cudaStreamDestroy(stream);
}

TEST_F(VectorAddTest, LimitsOfTheDeviceAreKept) {
  EXPECT_EQ(LaunchVectorAdd(a_.data, b_.data, sum_.data, kN, AddMutant::kTooManyThreads, nullptr),
            cudaErrorInvalidConfiguration);
  size_t free_bytes, total_bytes;
  ASSERT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  void* too_much;
  EXPECT_EQ(cudaMalloc(&too_much, total_bytes), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
}  // namespace trireme::gpusim
