// Mutants of the Hopper kernel, on sm_90a: what is out of order is found with any seed, what
// computes something else is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "kernels/cuda/attention/mutant.h"
#include "tests/gpusim/gpusim.h"
#include "tests/kernels/cuda/attention/attention_case.h"

namespace trireme::cuda {

extern AttentionMutant current_mutant;  // attention_mutants.cu

namespace {

using gpusim::FindingKind;
using Mutant = AttentionMutant;

// Three items, of which the last one ends within the second warpgroup's rows; two chunks, and more
// tiles than the ring has slots for.
const AttentionCaseOptions kPrompt{.num_heads = 3, .num_kv_heads = 1, .contexts = {300}};
const Share kPromptShare{0, 180, 120};
// Windows that begin and end within a tile.
const AttentionCaseOptions kWindow{
    .num_heads = 1, .num_kv_heads = 1, .window = 20, .sinks = true, .contexts = {140}};
const Share kWindowShare{0, 49, 80};

class HopperAttentionMutantTest : public testing::TestWithParam<uint64_t> {
 protected:
  static std::set<FindingKind> Run(Mutant mutant, const AttentionCaseOptions& options,
                                   const Share& share, bool* right) {
    gpusim::SetSeed(GetParam());
    current_mutant = mutant;
    std::set<FindingKind> kinds;
    {
      const AttentionCase problem(options);
      std::vector<uint16_t> out;
      const cudaError_t error = problem.TryRun({share}, &out);
      EXPECT_NE(error, cudaErrorInvalidValue);
      *right = error == cudaSuccess && problem.Error({share}, out) <= 1;
      for (const auto& finding : gpusim::TakeFindings()) kinds.insert(finding.kind);
    }
    EXPECT_EQ(cudaDeviceReset(), cudaSuccess);
    return kinds;
  }
  static void IsFound(Mutant mutant) {
    bool right = false;
    EXPECT_FALSE(Run(mutant, kPrompt, kPromptShare, &right).empty())
        << (right ? "and right" : "but wrong");
  }
  static void GivesWrongResults(Mutant mutant, const AttentionCaseOptions& options,
                                const Share& share) {
    bool right = false;
    EXPECT_THAT(Run(mutant, options, share, &right), testing::IsEmpty());
    EXPECT_FALSE(right) << static_cast<int>(mutant);
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, HopperAttentionMutantTest, testing::Range<uint64_t>(1, 4));

TEST_P(HopperAttentionMutantTest, TheKernelItselfPassesInTheSameCases) {
  for (const auto& [options, share] :
       {std::pair(kPrompt, kPromptShare), std::pair(kWindow, kWindowShare)}) {
    bool right = false;
    EXPECT_THAT(Run(Mutant::kNone, options, share, &right), testing::IsEmpty());
    EXPECT_TRUE(right);
  }
}
TEST_P(HopperAttentionMutantTest, NoWaitForSlot) { IsFound(Mutant::kNoWaitForSlot); }
TEST_P(HopperAttentionMutantTest, WrongParity) { IsFound(Mutant::kWrongParity); }
TEST_P(HopperAttentionMutantTest, NoWaitForValues) { IsFound(Mutant::kNoWaitForValues); }
TEST_P(HopperAttentionMutantTest, PublishesEarly) { IsFound(Mutant::kPublishesEarly); }
TEST_P(HopperAttentionMutantTest, NoProxyFence) { IsFound(Mutant::kNoProxyFence); }
TEST_P(HopperAttentionMutantTest, NoQueryBarrier) { IsFound(Mutant::kNoQueryBarrier); }
TEST_P(HopperAttentionMutantTest, NoWgmmaFence) { IsFound(Mutant::kNoWgmmaFence); }
TEST_P(HopperAttentionMutantTest, NoWaitForScores) { IsFound(Mutant::kNoWaitForScores); }
TEST_P(HopperAttentionMutantTest, ReleasesValuesEarly) { IsFound(Mutant::kReleasesValuesEarly); }
TEST_P(HopperAttentionMutantTest, NoBarrierBetweenItems) {
  IsFound(Mutant::kNoBarrierBetweenItems);
}
TEST_P(HopperAttentionMutantTest, NoWarpBarrier) { IsFound(Mutant::kNoWarpBarrier); }
TEST_P(HopperAttentionMutantTest, NoRowBound) { IsFound(Mutant::kNoRowBound); }
TEST_P(HopperAttentionMutantTest, WhatIsComputedOfAPromptIsWrong) {
  for (const Mutant mutant : {Mutant::kNoSwizzle, Mutant::kNoZeroFill, Mutant::kMaskOffByOne,
                              Mutant::kNoRescale, Mutant::kForgetsChunks}) {
    GivesWrongResults(mutant, kPrompt, kPromptShare);
  }
}
TEST_P(HopperAttentionMutantTest, WhatIsComputedInAWindowIsWrong) {
  for (const Mutant mutant : {Mutant::kWindowOffByOne, Mutant::kNoMaskOnWindow,
                              Mutant::kNoBaseGuard, Mutant::kSinkTwice}) {
    GivesWrongResults(mutant, kWindow, kWindowShare);
  }
}

}  // namespace
}  // namespace trireme::cuda
