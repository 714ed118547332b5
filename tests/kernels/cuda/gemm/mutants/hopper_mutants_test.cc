// Mutants of the Hopper kernel, on sm_90a.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/gpusim/gpusim.h"
#include "tests/kernels/cuda/gemm/matrix_case.h"
#include "tests/kernels/cuda/gemm/mutants/matmul_mutants.h"

namespace trireme::cuda {
namespace {

using gpusim::FindingKind;
using Mutant = HopperMutant;

class HopperMutantTest : public testing::TestWithParam<uint64_t> {
 protected:
  // 13 steps: more than twice the ring of six, and the last one is read from where the output goes.
  static constexpr int64_t kRows = 100, kCols = 12 * 64 + 32, kTokens = 19;

  std::set<FindingKind> Run(Mutant mutant, bool* right) {
    gpusim::SetSeed(GetParam());
    std::mt19937 random(static_cast<unsigned>(GetParam()));
    const QuantizedMatrix w = WholeMatrix(DType::kBF16, kRows, kCols, &random);
    const std::vector<float> x = WholeNumbers(kTokens * kCols, 4, &random);
    std::set<FindingKind> kinds;
    {
      const DeviceMatrix matrix(w, DType::kBF16, {}, MatrixLayout::kRows);
      const DeviceArray<uint16_t> on_device(Narrow(DType::kBF16, x));
      const DeviceArray<float> y(kTokens * kRows);
      HopperArgs args;
      EXPECT_EQ(MakeHopperArgs(matrix.get(),
                               {.x = on_device.get(),
                                .y = y.get(),
                                .y_stride = kRows,
                                .rows = kRows,
                                .cols = kCols,
                                .num_tokens = kTokens,
                                .steps = static_cast<int>(NumSteps(kCols)),
                                .f32_out = true},
                               128, &args),
                cudaSuccess);
      EXPECT_NE(LaunchHopperMutant(args, mutant), cudaErrorInvalidValue);
      *right = cudaDeviceSynchronize() == cudaSuccess;
      if (*right) {
        const std::vector<double> expected = Reference(w, DType::kBF16, x);
        const std::vector<float> got = y.Read();
        for (size_t i = 0; i < got.size(); ++i) *right &= got[i] == expected[i];
      }
      for (const gpusim::Finding& finding : gpusim::TakeFindings()) kinds.insert(finding.kind);
    }
    EXPECT_EQ(cudaDeviceReset(), cudaSuccess);
    return kinds;
  }
  void IsCaught(Mutant mutant) {
    bool right = false;
    EXPECT_FALSE(Run(mutant, &right).empty()) << (right ? "and right" : "but wrong");
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, HopperMutantTest, testing::Range<uint64_t>(1, 4));

TEST_P(HopperMutantTest, TheKernelItselfPassesOnTheSameShape) {
  bool right = false;
  EXPECT_THAT(Run(Mutant::kNone, &right), testing::IsEmpty());
  EXPECT_TRUE(right);
}
TEST_P(HopperMutantTest, NoWaitForEmpty) { IsCaught(Mutant::kNoWaitForEmpty); }
TEST_P(HopperMutantTest, GivesBackEarly) { IsCaught(Mutant::kGivesBackEarly); }
TEST_P(HopperMutantTest, NoWgmmaFence) { IsCaught(Mutant::kNoWgmmaFence); }
TEST_P(HopperMutantTest, NoLastWait) { IsCaught(Mutant::kNoLastWait); }
TEST_P(HopperMutantTest, NoBarrierBeforeOutput) { IsCaught(Mutant::kNoBarrierBeforeOutput); }
TEST_P(HopperMutantTest, NoBarrierBeforeStore) { IsCaught(Mutant::kNoBarrierBeforeStore); }

}  // namespace
}  // namespace trireme::cuda
