// Plain weights in rows, multiplied by Hopper's warpgroups: skipped elsewhere.
#include "kernels/cuda/gemm/hopper.h"

#include <gtest/gtest.h>

#include <bit>
#include <limits>

#include "tests/kernels/cuda/gemm/matrix_case.h"
#if TRIREME_GPUSIM
#include "tests/gpusim/gpusim.h"
#endif

namespace trireme::cuda {
namespace {

class HopperMatMulTest : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_DEVICE();
    if (LayoutFor(MatrixFormat::kPlain) != MatrixLayout::kRows) {
      GTEST_SKIP() << "skipped: no Hopper GPU";
    }
  }
  DType type() const { return GetParam(); }

  void ExpectExact(int64_t rows, int64_t cols, int64_t num_tokens, const Output& out = {}) {
    std::mt19937 random(static_cast<unsigned>(rows + cols + num_tokens));
    const QuantizedMatrix w = WholeMatrix(type(), rows, cols, &random);
    const std::vector<float> x = WholeNumbers(static_cast<size_t>(num_tokens * cols), 4, &random);
    const std::vector<float> bias = WholeNumbers(static_cast<size_t>(rows), 100, &random);
    const DeviceMatrix on_device(w, type(), bias, MatrixLayout::kRows);
    const std::vector<float> y = Multiply(on_device, Narrow(type(), x), out);
    const std::vector<double> expected = Reference(w, type(), x, bias);
    for (size_t i = 0; i < y.size(); ++i) {
      const auto exact = static_cast<float>(expected[i]);
      const float want = out.f32 ? exact : Widen(type(), Narrow(type(), {exact}))[0];
      ASSERT_EQ(y[i], want) << "token " << i / rows << " row " << i % rows;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Types, HopperMatMulTest, testing::Values(DType::kBF16, DType::kF16),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

TEST_P(HopperMatMulTest, WholeNumbersAreExactForAnyNumberOfTokens) {
  for (const int64_t num_tokens : {1, 2, 7, 8, 9, 16, 17, 33, 64, 65, 130, 300}) {
    ExpectExact(80, 1536, num_tokens);
  }
}
TEST_P(HopperMatMulTest, AnyNumberOfRowsAndColumnsWillDo) {
  ExpectExact(17, 576, 3);
  ExpectExact(192, 40, 9);
  ExpectExact(1, 8, 1);
  ExpectExact(200, 104, 140);
}
TEST_P(HopperMatMulTest, OutputIsRoundedToTheTypeAndRowsBehindItAreLeftAlone) {
  ExpectExact(48, 128, 9, {.f32 = false});
  ExpectExact(48, 128, 9, {.f32 = false, .y_stride = 72});
  ExpectExact(17, 128, 9, {.f32 = false, .y_stride = 19});
}

TEST_P(HopperMatMulTest, EveryTileGivesTheSameBits) {
  std::mt19937 random(11);
  constexpr int64_t kRows = 144, kCols = 576, kTokens = 70;
  const QuantizedMatrix w = cpu::RandomMatrix(type(), kRows, kCols, &random);
  const DeviceMatrix on_device(w, type(), {}, MatrixLayout::kRows);
  const std::vector<uint16_t> x = Narrow(type(), Uniform(kTokens * kCols, &random));
  const std::vector<float> expected = Multiply(on_device, x, {.tile = {.tokens = 8}});
  for (const int tokens : kHopperTokenTiles) {
    const std::vector<float> y = Multiply(on_device, x, {.tile = {.tokens = tokens}});
    for (size_t i = 0; i < y.size(); ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(y[i]), std::bit_cast<uint32_t>(expected[i]))
          << tokens << " tokens, token " << i / kRows;
    }
  }
  const std::vector<double> wanted = Reference(w, type(), Widen(type(), x));
  for (size_t i = 0; i < expected.size(); ++i) {
    // The sum of magnitudes is about a quarter of the columns.
    ASSERT_NEAR(expected[i], wanted[i], kCols * std::ldexp(kCols, -26));
  }
}

TEST_P(HopperMatMulTest, WhatIsNotANumberStaysWithItsToken) {
  std::mt19937 random(13);
  constexpr int64_t kRows = 32, kCols = 96, kTokens = 12;
  const DeviceMatrix w(cpu::RandomMatrix(type(), kRows, kCols, &random), type(), {},
                       MatrixLayout::kRows);
  std::vector<float> x = Uniform(kTokens * kCols, &random);
  x[5 * kCols + 40] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> y = Multiply(w, Narrow(type(), x));
  for (int64_t i = 0; i < kTokens * kRows; ++i) EXPECT_EQ(std::isnan(y[i]), i / kRows == 5);
}

TEST_P(HopperMatMulTest, ATableInRowsIsGathered) {
  std::mt19937 random(1);
  const QuantizedMatrix w = WholeMatrix(type(), 43, 72, &random);
  const DeviceMatrix table(w, type(), {}, MatrixLayout::kRows);
  const std::vector<int32_t> ids = {0, 42, 7, 43, -1};
  DeviceArray<int32_t> tokens(ids);
  DeviceArray<float> x(ids.size() * 72);
  Check(Embed(table.get(), 0, tokens.get(), 5, 1.5f, x.get(), nullptr));
  const std::vector<float> got = x.Read();
  for (size_t i = 0; i < got.size(); ++i) {
    const float want = i / 72 < 3 ? 1.5f * w.values[ids[i / 72] * 72 + i % 72] : 0.0f;
    ASSERT_EQ(got[i], want) << i;
  }
}

#if TRIREME_GPUSIM
TEST_P(HopperMatMulTest, EveryTileMultipliesOnceAndMovesWholeSectorsWithoutBankConflicts) {
  std::mt19937 random(1);
  constexpr int64_t kRows = 192, kCols = 640;
  const DeviceMatrix w(cpu::RandomMatrix(type(), kRows, kCols, &random), type(), {},
                       MatrixLayout::kRows);
  for (const int tokens : kHopperTokenTiles) {
    const std::vector<float> x = Uniform(static_cast<size_t>(tokens * kCols), &random);
    Multiply(w, Narrow(type(), x), {.f32 = false, .tile = {.tokens = tokens}});
    const gpusim::Counters counters = gpusim::CountersOfLastLaunch();
    SCOPED_TRACE(tokens);
    const int64_t row_ctas = (kRows + HopperRows(tokens) - 1) / HopperRows(tokens);
    EXPECT_EQ(counters.wgmma,
              static_cast<uint64_t>(row_ctas * HopperRows(tokens) / 64 * (kCols / 16)));
    EXPECT_EQ(counters.mma, 0u);
    EXPECT_LE(static_cast<double>(counters.global_sectors),
              1.05 * static_cast<double>(counters.global_sectors_min));
    EXPECT_EQ(counters.shared_waves, counters.shared_waves_min);
  }
}

// What 640 columns more cost, as AColumnMoreCostsFewInstructionsBesideItsMma counts it: a wgmma is
// so many mma as there are in it.
TEST_P(HopperMatMulTest, AColumnMoreCostsFewInstructionsBesideItsMma) {
  std::mt19937 random(1);
  constexpr int64_t kRows = 128, kCols[] = {640, 1280};
  for (const auto& [tokens, most] : {std::pair(16, 9.6), {64, 2.5}, {128, 1.2}, {256, 0.6}}) {
    uint64_t beside[2], wgmma[2];
    for (int i = 0; i < 2; ++i) {
      const DeviceMatrix w(cpu::RandomMatrix(type(), kRows, kCols[i], &random), type(), {},
                           MatrixLayout::kRows);
      const std::vector<float> x = Uniform(static_cast<size_t>(tokens * kCols[i]), &random);
      Multiply(w, Narrow(type(), x), {.f32 = false, .tile = {.tokens = tokens}});
      const gpusim::Counters counters = gpusim::CountersOfLastLaunch();
      wgmma[i] = counters.wgmma;
      beside[i] = counters.total() - 4 * counters.wgmma;
    }
    const auto mma =
        static_cast<double>((wgmma[1] - wgmma[0]) * 4 * static_cast<uint64_t>(tokens) / 8);
    EXPECT_LE(static_cast<double>(beside[1] - beside[0]) / mma, most) << tokens;
  }
}
#endif

TEST(HopperTileTest, FewTokensTakeTheNarrowestTileThatHoldsThemAndPromptsTheWidest) {
  EXPECT_EQ(ChooseHopperTokens(1, 4096, 132), 8);
  EXPECT_EQ(ChooseHopperTokens(8, 128256, 132), 8);
  EXPECT_EQ(ChooseHopperTokens(4096, 8192, 132), 256);
  for (int64_t num_tokens = 9; num_tokens < 300; ++num_tokens) {
    for (const int64_t rows : {17, 576, 4096, 49152}) {
      EXPECT_LT(ChooseHopperTokens(num_tokens, rows, 132), 2 * num_tokens);
    }
  }
}

}  // namespace
}  // namespace trireme::cuda
