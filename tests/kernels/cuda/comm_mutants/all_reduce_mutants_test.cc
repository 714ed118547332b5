// Each mutant gives a wrong residual on some rank, or reads what nobody has written, with any seed:
// one thread drives all ranks, so one that does not wait for its peers runs ahead of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/comm/mutant.h"
#include "tests/gpusim/gpusim.h"
#include "tests/kernels/cuda/comm/rank_group.h"

namespace trireme::cuda {

extern AllReduceMutant current_mutant;  // all_reduce_mutants.cu

namespace {

using Mutant = AllReduceMutant;

class AllReduceMutantTest : public testing::TestWithParam<uint64_t> {
 protected:
  // Four calls of four ranks.
  static bool IsRight(Mutant mutant, bool one_shot) {
    constexpr int kWorld = 4;
    constexpr int64_t kRows = 3, kCols = 72;
    gpusim::SetSeed(GetParam());
    current_mutant = mutant;
    EXPECT_TRUE(HasDevices(kWorld));
    Group group(DType::kBF16, kWorld, kRows, kCols);
    auto residual = Normal(kRows * kCols, 1);
    std::vector<Messages> calls;
    for (size_t call = 0; call < 4; ++call) {
      calls.push_back(Random(DType::kBF16, kWorld, kRows * kCols, 100 * call));
      residual = Residual(DType::kBF16, residual, calls.back());
      for (size_t rank = 0; rank < kWorld; ++rank) {
        group.Enqueue(rank, call, calls.back(), one_shot);
      }
    }
    bool right = true;
    for (const Outcome& outcome : group.Outcomes()) right &= outcome.x == residual;
    return gpusim::TakeFindings().empty() && right;
  }
};

TEST_P(AllReduceMutantTest, TheKernelItselfIsRight) {
  EXPECT_TRUE(IsRight(Mutant::kNone, true));
  EXPECT_TRUE(IsRight(Mutant::kNone, false));
}
TEST_P(AllReduceMutantTest, WhoDoesNotWaitForMessagesIsCaught) {
  EXPECT_FALSE(IsRight(Mutant::kNoFirstMeeting, true));
}
TEST_P(AllReduceMutantTest, WhoDoesNotWaitForSharesIsCaught) {
  EXPECT_FALSE(IsRight(Mutant::kNoSecondMeeting, false));
}
TEST_P(AllReduceMutantTest, ACallThatTakesItselfForTheFirstIsCaught) {
  EXPECT_FALSE(IsRight(Mutant::kForgetsEpoch, true));
}
TEST_P(AllReduceMutantTest, AnOrderOfEachRanksOwnIsCaught) {
  EXPECT_FALSE(IsRight(Mutant::kOwnFirst, true));
}
TEST_P(AllReduceMutantTest, RoundingAfterEachRankIsCaught) {
  EXPECT_FALSE(IsRight(Mutant::kRoundsTwice, true));
  EXPECT_FALSE(IsRight(Mutant::kRoundsTwice, false));
}

INSTANTIATE_TEST_SUITE_P(Seeds, AllReduceMutantTest, testing::Range<uint64_t>(1, 5));

}  // namespace
}  // namespace trireme::cuda
