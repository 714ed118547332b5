// Without what they show these tests do not fail but hang: a thread inside the kernel that waits
// never comes to the work that the kernel waits for.
#include "tests/gpusim/kernels/polling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "tests/gpusim/gpusim.h"

namespace trireme::gpusim {
namespace {

constexpr uint64_t kSeeds = 12;

// By whether it polls with atomics.
class PollingTest : public testing::TestWithParam<bool> {
 protected:
  PollingTest() {
    cudaMalloc(&flag_, sizeof(uint32_t));
    cudaMalloc(&seen_, sizeof(uint32_t));
    cudaStreamCreateWithFlags(&waiting_, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&other_, cudaStreamNonBlocking);
  }
  ~PollingTest() override {
    cudaStreamDestroy(waiting_);
    cudaStreamDestroy(other_);
    TakeFindings();
    cudaDeviceReset();
  }
  void Clear() {
    ASSERT_EQ(cudaMemset(flag_, 0, sizeof(uint32_t)), cudaSuccess);
    ASSERT_EQ(cudaMemset(seen_, 0, sizeof(uint32_t)), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  uint32_t Seen() {
    uint32_t seen = 0;
    cudaMemcpy(&seen, seen_, sizeof(seen), cudaMemcpyDeviceToHost);
    return seen;
  }

  uint32_t* flag_ = nullptr;
  uint32_t* seen_ = nullptr;
  cudaStream_t waiting_ = nullptr, other_ = nullptr;
};

TEST_P(PollingTest, AKernelSeesWhatOneOfAnotherStreamSetsLater) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SetSeed(seed);
    Clear();
    ASSERT_EQ(LaunchAwaitFlag(flag_, GetParam(), seen_, waiting_), cudaSuccess);
    ASSERT_EQ(LaunchSetFlag(flag_, 7, other_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(waiting_), cudaSuccess);
    EXPECT_EQ(Seen(), 7u);
  }
}

TEST_P(PollingTest, AKernelSeesWhatTheHostSetsLater) {
  uint32_t* word = nullptr;
  ASSERT_EQ(cudaMallocHost(reinterpret_cast<void**>(&word), sizeof(uint32_t)), cudaSuccess);
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SetSeed(seed);
    Clear();
    std::atomic_ref<uint32_t>(*word).store(0);
    ASSERT_EQ(LaunchAwaitFlag(word, GetParam(), seen_, waiting_), cudaSuccess);
    // To enqueue and to ask gives the queues a chance to run it, and comes back.
    ASSERT_EQ(LaunchSetFlag(flag_, 1, other_), cudaSuccess);
    ASSERT_EQ(cudaStreamQuery(waiting_), cudaErrorNotReady);
    std::atomic_ref<uint32_t>(*word).store(9);
    ASSERT_EQ(cudaStreamSynchronize(waiting_), cudaSuccess);
    EXPECT_EQ(Seen(), 9u);
  }
  cudaFreeHost(word);
}

// A replay that waits halfway goes on where it was; the next one starts anew.
TEST_P(PollingTest, AGraphThatWaitsGoesOnWhereItWas) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(waiting_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  ASSERT_EQ(LaunchAwaitFlag(flag_, GetParam(), seen_, waiting_), cudaSuccess);
  ASSERT_EQ(LaunchSetFlag(flag_, 0, waiting_), cudaSuccess);
  ASSERT_EQ(cudaStreamEndCapture(waiting_, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  for (uint32_t replay = 1; replay <= kSeeds; ++replay) {
    SetSeed(replay);
    Clear();
    ASSERT_EQ(cudaGraphLaunch(exec, waiting_), cudaSuccess);
    ASSERT_EQ(LaunchSetFlag(flag_, replay, other_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(waiting_), cudaSuccess);
    EXPECT_EQ(Seen(), replay);
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
}

INSTANTIATE_TEST_SUITE_P(Ways, PollingTest, testing::Bool(), [](const auto& info) {
  return info.param ? std::string("Atomics") : std::string("Loads");
});

}  // namespace
}  // namespace trireme::gpusim
