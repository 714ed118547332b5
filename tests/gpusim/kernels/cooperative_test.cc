#include "tests/gpusim/kernels/cooperative.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tests/gpusim/gpusim.h"

namespace trireme::gpusim {
namespace {

class CooperativeTest : public testing::Test {
 protected:
  CooperativeTest() {
    cudaMalloc(&values_, 2 * kCtas * sizeof(int));
    cudaMalloc(&parts_, kCtas * sizeof(int));
    cudaMalloc(&arrived_, sizeof(unsigned));
    cudaMalloc(&sum_, sizeof(int));
    cudaMemset(values_, 0, 2 * kCtas * sizeof(int));
    cudaMemset(arrived_, 0, sizeof(unsigned));
  }
  ~CooperativeTest() override {
    TakeFindings();
    cudaDeviceReset();
  }
  static bool FoundRace() {
    for (const Finding& finding : TakeFindings()) {
      if (finding.kind == FindingKind::kRaceGlobal) return true;
    }
    return false;
  }

  static constexpr int kCtas = 12;
  int* values_ = nullptr;
  int* parts_ = nullptr;
  unsigned* arrived_ = nullptr;
  int* sum_ = nullptr;
};

TEST_F(CooperativeTest, AGridsBarrierKeepsRoundsApart) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SetSeed(seed);
    cudaMemset(values_, 0, 2 * kCtas * sizeof(int));
    ASSERT_EQ(LaunchRounds(kCtas, values_, 3, true), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_THAT(TakeFindings(), testing::IsEmpty());
    std::vector<int> got(kCtas), expected(kCtas);
    cudaMemcpy(got.data(), values_ + kCtas, kCtas * sizeof(int), cudaMemcpyDeviceToHost);
    for (int round = 0; round < 3; ++round) {
      const int sum = std::accumulate(expected.begin(), expected.end(), 0);
      for (int i = 0; i < kCtas; ++i) expected[static_cast<size_t>(i)] = sum + i;
    }
    EXPECT_EQ(got, expected);
  }
}

TEST_F(CooperativeTest, RoundsWithoutABarrierAreARace) {
  LaunchRounds(kCtas, values_, 3, false);
  cudaDeviceSynchronize();
  EXPECT_TRUE(FoundRace());
}

TEST_F(CooperativeTest, MoreThanFitsIsRefused) {
  EXPECT_EQ(LaunchRounds(1 << 20, values_, 1, true), cudaErrorCooperativeLaunchTooLarge);
  cudaGetLastError();
}

TEST_F(CooperativeTest, TheLastCtaSeesWhatAllHaveWritten) {
  std::vector<int> values(kCtas);
  std::iota(values.begin(), values.end(), 1);
  cudaMemcpy(values_, values.data(), kCtas * sizeof(int), cudaMemcpyHostToDevice);
  ASSERT_EQ(LaunchLastAddsUp(kCtas, values_, parts_, arrived_, sum_, true), cudaSuccess);
  int sum = 0;
  cudaMemcpy(&sum, sum_, sizeof(int), cudaMemcpyDeviceToHost);
  EXPECT_EQ(sum, kCtas * (kCtas + 1) / 2);
  EXPECT_THAT(TakeFindings(), testing::IsEmpty());
}

TEST_F(CooperativeTest, AddingUpWithoutFencesIsARace) {
  LaunchLastAddsUp(kCtas, values_, parts_, arrived_, sum_, false);
  cudaDeviceSynchronize();
  EXPECT_TRUE(FoundRace());
}

}  // namespace
}  // namespace trireme::gpusim
