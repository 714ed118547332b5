// Each mutant falls to the checker that should see it: with any seed where the order of things
// decides, hence several.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <set>
#include <string>

#include "tests/gpusim/gpusim.h"
#include "tests/gpusim/kernels/attention_case.h"

namespace trireme::gpusim {
namespace {

struct Outcome {
  std::set<FindingKind> kinds;
  bool right = false;  // the result
  bool waves_minimal = false;
};

class AttentionMutantTest : public testing::TestWithParam<uint64_t> {
 protected:
  Outcome Run(AttentionMutant mutant) {
    SetSeed(GetParam());
    Outcome outcome;
    // 68 rows: two tiles, the second one mostly empty; 150 keys: three tiles, the last one not
    // full.
    AttentionCase problem({.q_len = 17, .kv_heads = 1, .group = 4, .kv_lens = {150}}, GetParam());
    // What the kernel does wrong may be known on return already; that it ran, it must.
    EXPECT_NE(LaunchAttentionMutant(problem.params(), problem.batch(), mutant, nullptr),
              cudaErrorInvalidValue);
    const bool ended = cudaDeviceSynchronize() == cudaSuccess;
    outcome.right = ended && problem.MaxError() <= problem.Tolerance();
    for (const Finding& finding : TakeFindings()) outcome.kinds.insert(finding.kind);
    const Counters counters = CountersOfLastLaunch();
    outcome.waves_minimal = counters.shared_waves == counters.shared_waves_min;
    EXPECT_EQ(cudaDeviceReset(), cudaSuccess);
    return outcome;
  }
  void Finds(AttentionMutant mutant, std::set<FindingKind> any_of) {
    const Outcome outcome = Run(mutant);
    bool found = false;
    for (const FindingKind kind : outcome.kinds) found |= any_of.contains(kind);
    EXPECT_TRUE(found) << (outcome.kinds.empty() ? "nothing found"
                                                 : std::string(NameOf(*outcome.kinds.begin())));
  }
  void GivesWrongResults(AttentionMutant mutant) {
    const Outcome outcome = Run(mutant);
    EXPECT_THAT(outcome.kinds, testing::IsEmpty());
    EXPECT_FALSE(outcome.right);
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, AttentionMutantTest, testing::Range<uint64_t>(1, 4));

using Mutant = AttentionMutant;

TEST_P(AttentionMutantTest, NoBarrierAfterWait) {
  Finds(Mutant::kNoBarrierAfterWait, {FindingKind::kInFlight, FindingKind::kRaceShared});
}
TEST_P(AttentionMutantTest, NoBarrierBeforeLoad) {
  Finds(Mutant::kNoBarrierBeforeLoad, {FindingKind::kRaceShared, FindingKind::kInFlight});
}
TEST_P(AttentionMutantTest, LaxWait) { Finds(Mutant::kLaxWait, {FindingKind::kInFlight}); }
TEST_P(AttentionMutantTest, NoCommit) { Finds(Mutant::kNoCommit, {FindingKind::kInFlight}); }
TEST_P(AttentionMutantTest, NoSwizzle) {
  const Outcome outcome = Run(Mutant::kNoSwizzle);
  EXPECT_THAT(outcome.kinds, testing::IsEmpty());
  EXPECT_TRUE(outcome.right);
  EXPECT_FALSE(outcome.waves_minimal);
}
TEST_P(AttentionMutantTest, WrongStageStride) {
  Finds(Mutant::kWrongStageStride, {FindingKind::kInFlight, FindingKind::kRaceShared});
}
TEST_P(AttentionMutantTest, WarpSkipsBarrier) {
  Finds(Mutant::kWarpSkipsBarrier, {FindingKind::kDeadlock, FindingKind::kInFlight,
                                    FindingKind::kRaceShared, FindingKind::kBarrierMisuse});
}
TEST_P(AttentionMutantTest, MaskOffByOne) { GivesWrongResults(Mutant::kMaskOffByOne); }
TEST_P(AttentionMutantTest, NoZeroFill) {
  Finds(Mutant::kNoZeroFill, {FindingKind::kUninitializedGlobal});
}
TEST_P(AttentionMutantTest, NoRowBound) {
  Finds(Mutant::kNoRowBound, {FindingKind::kOutOfBounds, FindingKind::kRaceGlobal});
}
TEST_P(AttentionMutantTest, PageOutOfBounds) {
  Finds(Mutant::kPageOutOfBounds, {FindingKind::kOutOfBounds});
}
TEST_P(AttentionMutantTest, UninitialisedAccumulator) {
  Finds(Mutant::kUninitialisedAccumulator, {FindingKind::kUninitializedRegister});
}
TEST_P(AttentionMutantTest, MisalignedCopy) {
  Finds(Mutant::kMisalignedCopy, {FindingKind::kMisaligned});
}
TEST_P(AttentionMutantTest, NoWarpBarrier) {
  Finds(Mutant::kNoWarpBarrier, {FindingKind::kRaceShared});
}
TEST_P(AttentionMutantTest, ShuffleMask) {
  Finds(Mutant::kShuffleMask, {FindingKind::kDivergence});
}
TEST_P(AttentionMutantTest, NoRescale) { GivesWrongResults(Mutant::kNoRescale); }
TEST_P(AttentionMutantTest, HalfReduction) { GivesWrongResults(Mutant::kHalfReduction); }
TEST_P(AttentionMutantTest, SwappedFragments) { GivesWrongResults(Mutant::kSwappedFragments); }
TEST_P(AttentionMutantTest, TooLittleShared) {
  Finds(Mutant::kTooLittleShared, {FindingKind::kOutOfBounds});
}
TEST_P(AttentionMutantTest, NoCausalTile) { GivesWrongResults(Mutant::kNoCausalTile); }

TEST(AttentionMutantsTest, TheKernelItselfPassesOnTheSameShape) {
  AttentionCase problem({.q_len = 17, .kv_heads = 1, .group = 4, .kv_lens = {150}}, 1);
  ASSERT_EQ(LaunchAttention(problem.params(), problem.batch(), nullptr), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_THAT(TakeFindings(), testing::IsEmpty());
  EXPECT_LE(problem.MaxError(), problem.Tolerance());
}

}  // namespace
}  // namespace trireme::gpusim
