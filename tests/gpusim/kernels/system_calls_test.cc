#include "tests/gpusim/kernels/system_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/gpusim/gpusim.h"

namespace trireme::gpusim {
namespace {

class SystemCallsTest : public testing::Test {
 protected:
  SystemCallsTest() {
    cudaMalloc(&values_, kMostValues * sizeof(int));
    cudaMalloc(&counts_, 3 * sizeof(int));
    cudaMemset(counts_, 0, 3 * sizeof(int));
  }
  ~SystemCallsTest() override {
    cudaDeviceReset();
    cudaFree(values_);
    cudaFree(counts_);
  }
  std::vector<int> Count(const std::vector<int>& values) {
    cudaMemcpy(values_, values.data(), values.size() * sizeof(int), cudaMemcpyDefault);
    EXPECT_EQ(LaunchCount(values_, static_cast<int>(values.size()), counts_), cudaSuccess);
    std::vector<int> counts(3);
    EXPECT_EQ(cudaMemcpy(counts.data(), counts_, 3 * sizeof(int), cudaMemcpyDefault), cudaSuccess);
    EXPECT_THAT(TakeFindings(), testing::IsEmpty());
    return counts;
  }
  int *values_ = nullptr, *counts_ = nullptr;
};

TEST_F(SystemCallsTest, BarriersCountThePredicatesOfAllThreads) {
  using testing::ElementsAre;
  EXPECT_THAT(Count({3, -1, 2, 0, 5}), ElementsAre(3, 0, 1));
  EXPECT_THAT(Count(std::vector<int>(50, 1)), ElementsAre(50, 1, 1));
  EXPECT_THAT(Count({-3}), ElementsAre(0, 0, 0));
}

TEST_F(SystemCallsTest, AnAssertionThatFailsIsFoundWithItsText) {
  LaunchCount(values_, kMostValues + 1, counts_);  // may know already
  EXPECT_NE(cudaDeviceSynchronize(), cudaSuccess);
  const auto findings = TakeFindings();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].kind, FindingKind::kAssert);
  EXPECT_THAT(findings[0].what, testing::HasSubstr("n <= kMostValues"));
  EXPECT_THAT(findings[0].file, testing::HasSubstr("system_calls.cu"));
}

TEST_F(SystemCallsTest, AttributesOfAKernelAreKnown) {
  cudaFuncAttributes attributes;
  ASSERT_EQ(CountAttributes(&attributes), cudaSuccess);
  EXPECT_EQ(attributes.maxThreadsPerBlock, kMostValues);
  EXPECT_EQ(attributes.sharedSizeBytes, 0u);
  EXPECT_EQ(attributes.maxDynamicSharedSizeBytes, 48 * 1024);
  EXPECT_EQ(attributes.numRegs, 255);
  int major = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  EXPECT_EQ(attributes.ptxVersion / 10, major);
}

}  // namespace
}  // namespace trireme::gpusim
