// Each mutant falls to the checker, the counter or the comparison that should see it.
#include "tests/kernels/cuda/gemm/mutants/matmul_mutants.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tests/gpusim/gpusim.h"
#include "tests/kernels/cuda/gemm/matrix_case.h"

namespace trireme::cuda {
namespace {

using gpusim::FindingKind;
using Mutant = MatMulMutant;

struct Outcome {
  std::set<FindingKind> kinds;
  bool right = false;  // the result
  bool waves_minimal = false;
};

class MatMulMutantTest : public testing::TestWithParam<uint64_t> {
 protected:
  // 33 rows: two CTAs, the second one with a tile beyond the end; 19 tokens: the second one mostly
  // empty; 13 steps: more than twice the ring, the last one not full, and read from where the
  // output goes.
  static constexpr int64_t kRows = 33, kCols = 12 * 64 + 32, kTokens = 19;

  Outcome Run(Mutant mutant) {
    gpusim::SetSeed(GetParam());
    std::mt19937 random(static_cast<unsigned>(GetParam()));
    const bool minima = mutant == Mutant::kHalfSum || mutant == Mutant::kFirstScale;
    QuantizedMatrix w = minima ? cpu::RandomMatrix(DType::kQ4_1, kRows, kCols, &random)
                               : WholeMatrix(DType::kBF16, kRows, kCols, &random);
    const std::vector<float> x = WholeNumbers(kTokens * kCols, 4, &random);
    Outcome outcome;
    {
      const DeviceMatrix matrix(w, DType::kBF16);
      const DeviceArray<uint16_t> on_device(Narrow(DType::kBF16, x));
      const DeviceArray<float> y(kTokens * kRows);
      const MatMulArgs args{.weights = static_cast<const uint8_t*>(matrix.get().data),
                            .x = on_device.get(),
                            .y = y.get(),
                            .y_stride = kRows,
                            .rows = kRows,
                            .cols = kCols,
                            .num_tokens = kTokens,
                            .num_tiles = static_cast<int>(NumTiles(kRows)),
                            .steps = static_cast<int>(NumSteps(kCols)),
                            .f32_out = true};
      const bool launched = mutant == Mutant::kNone
                                ? LaunchPlain(DType::kBF16, args, {.tokens = 16, .row_warps = 2},
                                              nullptr) == cudaSuccess
                                : LaunchMatMulMutant(args, mutant) != cudaErrorInvalidValue;
      EXPECT_TRUE(launched);
      if (cudaDeviceSynchronize() == cudaSuccess) {
        const std::vector<double> expected = Reference(w, DType::kBF16, x);
        std::vector<float> got(kTokens * kRows);
        outcome.right =
            cudaMemcpy(got.data(), y.get(), got.size() * 4, cudaMemcpyDeviceToHost) == cudaSuccess;
        for (size_t i = 0; i < got.size(); ++i) {
          outcome.right &= std::fabs(got[i] - expected[i]) <= (minima ? 1e-2 : 0);
        }
      }
      for (const gpusim::Finding& finding : gpusim::TakeFindings()) {
        outcome.kinds.insert(finding.kind);
      }
      const gpusim::Counters counters = gpusim::CountersOfLastLaunch();
      outcome.waves_minimal = counters.shared_waves == counters.shared_waves_min;
    }
    EXPECT_EQ(cudaDeviceReset(), cudaSuccess);
    return outcome;
  }
  void Finds(Mutant mutant, std::set<FindingKind> any_of) {
    const Outcome outcome = Run(mutant);
    bool found = false;
    for (const FindingKind kind : outcome.kinds) found |= any_of.contains(kind);
    EXPECT_TRUE(found) << (outcome.kinds.empty() ? "nothing found"
                                                 : std::string(NameOf(*outcome.kinds.begin())));
  }
  void GivesWrongResults(Mutant mutant) {
    const Outcome outcome = Run(mutant);
    EXPECT_THAT(outcome.kinds, testing::IsEmpty());
    EXPECT_FALSE(outcome.right);
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, MatMulMutantTest, testing::Range<uint64_t>(1, 4));

TEST_P(MatMulMutantTest, TheKernelItselfPassesOnTheSameShape) {
  const Outcome outcome = Run(Mutant::kNone);
  EXPECT_THAT(outcome.kinds, testing::IsEmpty());
  EXPECT_TRUE(outcome.right);
  EXPECT_TRUE(outcome.waves_minimal);
}
TEST_P(MatMulMutantTest, NoBarrier) {
  Finds(Mutant::kNoBarrier, {FindingKind::kInFlight, FindingKind::kRaceShared});
}
TEST_P(MatMulMutantTest, NoBarrierBeforeOutput) {
  Finds(Mutant::kNoBarrierBeforeOutput, {FindingKind::kRaceShared});
}
TEST_P(MatMulMutantTest, NoBarrierBeforeStore) {
  Finds(Mutant::kNoBarrierBeforeStore,
        {FindingKind::kRaceShared, FindingKind::kUninitializedShared});
}
TEST_P(MatMulMutantTest, LaxWait) { Finds(Mutant::kLaxWait, {FindingKind::kInFlight}); }
TEST_P(MatMulMutantTest, NoCommit) { Finds(Mutant::kNoCommit, {FindingKind::kInFlight}); }
TEST_P(MatMulMutantTest, WrongStageStride) {
  Finds(Mutant::kWrongStageStride, {FindingKind::kInFlight, FindingKind::kRaceShared});
}
TEST_P(MatMulMutantTest, NoSwizzle) {
  const Outcome outcome = Run(Mutant::kNoSwizzle);
  EXPECT_THAT(outcome.kinds, testing::IsEmpty());
  EXPECT_TRUE(outcome.right);
  EXPECT_FALSE(outcome.waves_minimal);
}
TEST_P(MatMulMutantTest, NoZeroFill) {
  Finds(Mutant::kNoZeroFill, {FindingKind::kOutOfBounds, FindingKind::kUninitializedGlobal});
}
TEST_P(MatMulMutantTest, NoColumnTail) {  // reads on into the next token, past the last one
  Finds(Mutant::kNoColumnTail, {FindingKind::kOutOfBounds, FindingKind::kUninitializedGlobal});
}
TEST_P(MatMulMutantTest, NoTokenBound) {
  Finds(Mutant::kNoTokenBound, {FindingKind::kOutOfBounds, FindingKind::kRaceGlobal});
}
TEST_P(MatMulMutantTest, NoRowTileBound) {
  Finds(Mutant::kNoRowTileBound, {FindingKind::kOutOfBounds, FindingKind::kUninitializedGlobal});
}
TEST_P(MatMulMutantTest, HalfSum) { GivesWrongResults(Mutant::kHalfSum); }
TEST_P(MatMulMutantTest, FirstScale) { GivesWrongResults(Mutant::kFirstScale); }

}  // namespace
}  // namespace trireme::cuda
