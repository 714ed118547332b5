// Faults on demand, as a program sees them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "tests/gpusim/gpusim.h"
#include "tests/gpusim/kernels/vector_add.h"

namespace trireme::gpusim {
namespace {

constexpr int kN = 128;

class FaultsTest : public testing::Test {
 protected:
  FaultsTest() {
    cudaMalloc(&data_, kN * sizeof(float));
    cudaMemset(data_, 0, kN * sizeof(float));
    cudaDeviceSynchronize();
  }
  ~FaultsTest() override {
    ClearFaults();
    cudaDeviceReset();
    cudaFree(data_);
  }
  cudaError_t Add() { return LaunchVectorAdd(data_, data_, data_, kN, AddMutant::kNone, nullptr); }
  float* data_ = nullptr;
};

TEST_F(FaultsTest, TheNthAllocationFailsAndThoseAroundItDoNot) {
  InjectFault({.kind = FaultKind::kAllocation, .call = 2});
  for (const cudaError_t expected : {cudaSuccess, cudaErrorMemoryAllocation, cudaSuccess}) {
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, 16), expected);
    EXPECT_EQ(memory == nullptr, expected != cudaSuccess);
    EXPECT_EQ(cudaGetLastError(), expected);
    EXPECT_EQ(cudaFree(memory), cudaSuccess);
  }
}

TEST_F(FaultsTest, PinnedAndPooledMemoryFailToo) {
  void* memory = nullptr;
  InjectFault({.kind = FaultKind::kAllocation, .call = 1});
  EXPECT_EQ(cudaMallocHost(&memory, 16), cudaErrorMemoryAllocation);
  InjectFault({.kind = FaultKind::kAllocation, .call = 1});
  EXPECT_EQ(cudaMallocAsync(&memory, 16, nullptr), cudaErrorMemoryAllocation);
}

TEST_F(FaultsTest, ALaunchThatFailsLeavesTheDeviceUsable) {
  InjectFault({.kind = FaultKind::kLaunch, .call = 1});
  EXPECT_EQ(Add(), cudaErrorLaunchOutOfResources);
  EXPECT_EQ(Add(), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

TEST_F(FaultsTest, AKernelThatFailsSticksUntilTheDeviceIsReset) {
  InjectFault({.kind = FaultKind::kSticky, .call = 2});
  ASSERT_EQ(Add(), cudaSuccess);
  Add();  // may know already
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 16), cudaErrorLaunchFailure);
  EXPECT_EQ(memory, nullptr);
  EXPECT_EQ(Add(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaDeviceReset(), cudaSuccess);
  EXPECT_EQ(Add(), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

TEST_F(FaultsTest, AKernelOfAGraphFailsToo) {
  cudaStream_t stream;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
  ASSERT_EQ(LaunchVectorAdd(data_, data_, data_, kN, AddMutant::kNone, stream), cudaSuccess);
  cudaGraph_t graph;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  cudaGraphExec_t exec;
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  InjectFault({.kind = FaultKind::kSticky, .call = 1});
  cudaGraphLaunch(exec, stream);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaDeviceReset(), cudaSuccess);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

TEST_F(FaultsTest, FaultsBySeedComeAgainWithTheSameSeed) {
  const auto failures = [](uint64_t seed) {
    ClearFaults();
    SetSeed(seed);
    InjectFault({.kind = FaultKind::kAllocation, .one_in = 4});
    std::vector<bool> failed;
    for (int i = 0; i < 64; ++i) {
      void* memory = nullptr;
      failed.push_back(cudaMalloc(&memory, 16) != cudaSuccess);
      cudaFree(memory);
    }
    return failed;
  };
  const auto first = failures(1);
  EXPECT_EQ(failures(1), first);
  EXPECT_NE(failures(2), first);
  EXPECT_THAT(first, testing::AllOf(testing::Contains(true), testing::Contains(false)));
}

// In a process of its own: nothing brings the device back.
using FaultsDeathTest = FaultsTest;

TEST_F(FaultsDeathTest, ALostDeviceStaysLost) {
  EXPECT_EXIT(
      {
        InjectFault({.kind = FaultKind::kDeviceLoss, .call = 1});
        Add();
        const bool lost = cudaDeviceSynchronize() == cudaErrorUnknown &&
                          cudaDeviceReset() == cudaErrorUnknown && Add() == cudaErrorUnknown;
        std::exit(lost ? 7 : 1);
      },
      testing::ExitedWithCode(7), "loss, call 1, device 0");
}

// The environment is read before main: the process starts anew.
class FaultSettingDeathTest : public testing::Test {
 protected:
  FaultSettingDeathTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
  ~FaultSettingDeathTest() override { unsetenv("TRIREME_GPUSIM_FAULTS"); }
};

TEST_F(FaultSettingDeathTest, TheEnvironmentPlansFaults) {
  setenv("TRIREME_GPUSIM_FAULTS", "launch@1/7,alloc@2/0", 1);
  EXPECT_EXIT(
      {
        void* memory = nullptr;
        const bool planned = cudaMalloc(&memory, 16) == cudaSuccess &&
                             cudaMalloc(&memory, 16) == cudaErrorMemoryAllocation;
        std::exit(planned ? 7 : 1);
      },
      testing::ExitedWithCode(7), "alloc, call 2, device 0");
}

TEST_F(FaultSettingDeathTest, ASettingThatMeansNothingEndsTheProgram) {
  for (const char* const setting : {"alloc", "alloc@0", "alloc@x", "memory@1", "alloc@1/-1"}) {
    setenv("TRIREME_GPUSIM_FAULTS", setting, 1);
    EXPECT_EXIT(std::exit(0), testing::ExitedWithCode(2), "TRIREME_GPUSIM_FAULTS");
  }
}

}  // namespace
}  // namespace trireme::gpusim
