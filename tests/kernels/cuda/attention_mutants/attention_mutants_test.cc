// Each mutant falls to the checker that should see it, with any seed where the order of things
// decides; and to the numbers where it only computes something else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "kernels/cuda/attention/mutant.h"
#include "tests/gpusim/gpusim.h"
#include "tests/kernels/cuda/attention/attention_case.h"

namespace trireme::cuda {

extern AttentionMutant current_mutant;  // attention_mutants.cu

namespace {

using gpusim::FindingKind;
using Mutant = AttentionMutant;

struct Outcome {
  std::set<FindingKind> kinds;
  bool right = false;  // the result
  bool waves_minimal = false;
};

// A prompt's part behind cached keys: 63 rows and 27 more, which are no whole CTA; two chunks.
const AttentionCaseOptions kPrompt{.num_heads = 3, .num_kv_heads = 1, .contexts = {300}};
const Share kPromptShare{0, 265, 30};
// Windows that begin and end within a tile of a warp's rows.
const AttentionCaseOptions kWindow{
    .num_heads = 1, .num_kv_heads = 1, .window = 20, .sinks = true, .contexts = {140}};
const Share kWindowShare{0, 49, 80};  // warps' rows end at 64 and 128, a tile's first key
const AttentionCaseOptions kLong{.num_heads = 4, .num_kv_heads = 1, .contexts = {530}};
const Share kLongShare{0, 525, 1};

class AttentionMutantTest : public testing::TestWithParam<uint64_t> {
 protected:
  static Outcome Run(Mutant mutant, const AttentionCaseOptions& options, const Share& share) {
    gpusim::SetSeed(GetParam());
    current_mutant = mutant;
    Outcome outcome;
    {
      const AttentionCase problem(options);
      std::vector<uint16_t> out;
      const cudaError_t error = problem.TryRun({share}, &out);
      EXPECT_NE(error, cudaErrorInvalidValue);
      outcome.right = error == cudaSuccess && problem.Error({share}, out) <= 1;
      for (const auto& finding : gpusim::TakeFindings()) outcome.kinds.insert(finding.kind);
      const gpusim::Counters counters = gpusim::CountersOfLastLaunch();
      outcome.waves_minimal = counters.shared_waves == counters.shared_waves_min;
    }
    EXPECT_EQ(cudaDeviceReset(), cudaSuccess);
    return outcome;
  }
  static void Finds(Mutant mutant, const std::set<FindingKind>& any_of) {
    const Outcome outcome = Run(mutant, kPrompt, kPromptShare);
    bool found = false;
    for (const FindingKind kind : outcome.kinds) found |= any_of.contains(kind);
    EXPECT_TRUE(found) << (outcome.kinds.empty()
                               ? "nothing found"
                               : std::string(gpusim::NameOf(*outcome.kinds.begin())));
  }
  static void GivesWrongResults(Mutant mutant, const AttentionCaseOptions& options,
                                const Share& share) {
    const Outcome outcome = Run(mutant, options, share);
    EXPECT_THAT(outcome.kinds, testing::IsEmpty());
    EXPECT_FALSE(outcome.right);
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, AttentionMutantTest, testing::Range<uint64_t>(1, 4));

TEST_P(AttentionMutantTest, TheKernelItselfPassesInTheSameCases) {
  for (const auto& [options, share] :
       {std::pair(kPrompt, kPromptShare), std::pair(kWindow, kWindowShare),
        std::pair(kLong, kLongShare)}) {
    const Outcome outcome = Run(Mutant::kNone, options, share);
    EXPECT_THAT(outcome.kinds, testing::IsEmpty());
    EXPECT_TRUE(outcome.right);
    EXPECT_TRUE(outcome.waves_minimal);
  }
}

constexpr auto kInFlight = FindingKind::kInFlight;
constexpr auto kRace = FindingKind::kRaceShared;

TEST_P(AttentionMutantTest, NoBarrierForKeys) {
  Finds(Mutant::kNoBarrierForKeys, {kInFlight, kRace});
}
TEST_P(AttentionMutantTest, NoBarrierForValues) {
  Finds(Mutant::kNoBarrierForValues, {kInFlight, kRace});
}
TEST_P(AttentionMutantTest, LaxWaitForKeys) { Finds(Mutant::kLaxWaitForKeys, {kInFlight}); }
TEST_P(AttentionMutantTest, LaxWaitForValues) { Finds(Mutant::kLaxWaitForValues, {kInFlight}); }
TEST_P(AttentionMutantTest, NoCommitOfValues) { Finds(Mutant::kNoCommitOfValues, {kInFlight}); }
TEST_P(AttentionMutantTest, WrongStageStride) {
  Finds(Mutant::kWrongStageStride, {kInFlight, kRace});
}
TEST_P(AttentionMutantTest, NoBarrierBetweenItems) {
  Finds(Mutant::kNoBarrierBetweenItems, {kInFlight, kRace});
}
TEST_P(AttentionMutantTest, NoWarpBarrier) { Finds(Mutant::kNoWarpBarrier, {kRace}); }
TEST_P(AttentionMutantTest, NoRowBound) {
  Finds(Mutant::kNoRowBound, {FindingKind::kOutOfBounds, FindingKind::kRaceGlobal});
}
TEST_P(AttentionMutantTest, NoSwizzle) {
  const Outcome outcome = Run(Mutant::kNoSwizzle, kPrompt, kPromptShare);
  EXPECT_THAT(outcome.kinds, testing::IsEmpty());
  EXPECT_TRUE(outcome.right);
  EXPECT_FALSE(outcome.waves_minimal);
}
TEST_P(AttentionMutantTest, WhatIsComputedOfAPromptIsWrong) {
  for (const Mutant mutant : {Mutant::kNoZeroFill, Mutant::kStaleLookUp, Mutant::kMaskOffByOne,
                              Mutant::kNoRescale, Mutant::kHalfSum, Mutant::kForgetsChunks}) {
    SCOPED_TRACE(static_cast<int>(mutant));
    GivesWrongResults(mutant, kPrompt, kPromptShare);
  }
}
TEST_P(AttentionMutantTest, WhatIsComputedInAWindowIsWrong) {
  for (const Mutant mutant : {Mutant::kWindowOffByOne, Mutant::kNoMaskOnWindow,
                              Mutant::kNoBaseGuard, Mutant::kSinkTwice, Mutant::kSeesTooLittle}) {
    SCOPED_TRACE(static_cast<int>(mutant));
    GivesWrongResults(mutant, kWindow, kWindowShare);
  }
}
// Whether a prompt's last token has the bits that it has as a decode.
bool SameBitsAlone(Mutant mutant) {
  current_mutant = mutant;
  const AttentionCase problem({.num_heads = 1, .num_kv_heads = 1, .contexts = {300}});
  const std::vector<uint16_t> prompt = problem.Run({{0, 230, 70}}),
                              alone = problem.Run({{0, 299, 1}});
  return std::equal(alone.begin(), alone.end(), prompt.end() - 64);
}
TEST_P(AttentionMutantTest, AChunkThatDoesNotStartFromScratchHasOtherBits) {
  gpusim::SetSeed(GetParam());
  EXPECT_TRUE(SameBitsAlone(Mutant::kNone));
  EXPECT_FALSE(SameBitsAlone(Mutant::kKeepsMax));
}
TEST_P(AttentionMutantTest, WhatIsMergedOfChunksIsWrong) {
  GivesWrongResults(Mutant::kPartialWithoutMax, kLong, kLongShare);
}

}  // namespace
}  // namespace trireme::cuda
