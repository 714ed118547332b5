// Matrix products of every format, type and tile against double precision.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <string>
#include <tuple>

#include "tests/kernels/cuda/gemm/matrix_case.h"

namespace trireme::cuda {
namespace {

constexpr int kFew = 5;
constexpr DType kSources[] = {DType::kBF16, DType::kF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1};

// Source of the weights, type of the activations.
class MatMulTest : public testing::TestWithParam<std::tuple<DType, DType>> {
 protected:
  void SetUp() override { SKIP_WITHOUT_DEVICE(); }
  DType source() const { return std::get<0>(GetParam()); }
  DType type() const { return std::get<1>(GetParam()); }

  void ExpectExact(int64_t rows, int64_t cols, int64_t num_tokens, const Output& out = {}) {
    std::mt19937 random(static_cast<unsigned>(rows + cols + num_tokens));
    const QuantizedMatrix w = WholeMatrix(source(), rows, cols, &random);
    const std::vector<float> x = WholeNumbers(static_cast<size_t>(num_tokens * cols), 4, &random);
    const std::vector<float> bias = WholeNumbers(static_cast<size_t>(rows), 100, &random);
    const DeviceMatrix on_device(w, type(), bias);
    const std::vector<float> y = Multiply(on_device, Narrow(type(), x), out);
    const std::vector<double> expected = Reference(w, type(), x, bias);
    for (size_t i = 0; i < y.size(); ++i) {
      const auto exact = static_cast<float>(expected[i]);
      const float want = out.f32 ? exact : Widen(type(), Narrow(type(), {exact}))[0];
      ASSERT_EQ(y[i], want) << "token " << i / rows << " row " << i % rows;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Formats, MatMulTest,
                         testing::Combine(testing::ValuesIn(kSources),
                                          testing::Values(DType::kBF16, DType::kF16)),
                         [](const auto& info) {
                           return std::string(DTypeName(std::get<0>(info.param))) + "_times_" +
                                  std::string(DTypeName(std::get<1>(info.param)));
                         });

TEST_P(MatMulTest, WholeNumbersAreExactForAnyFewTokens) {
  for (const int64_t num_tokens : {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17}) {
    ExpectExact(48, 576, num_tokens);
  }
}
TEST_P(MatMulTest, WholeNumbersAreExactForManyTokens) {
  for (const int64_t num_tokens : {64, 65, 130}) ExpectExact(192, 576, num_tokens);
}
TEST_P(MatMulTest, AnyNumberOfRowsAndColumnsWillDo) {
  ExpectExact(17, 1536, 3);
  ExpectExact(192, 96, 2);
  ExpectExact(1, 32, 1);
  if (FormatOf(source()) == MatrixFormat::kPlain) ExpectExact(33, 40, 9);
}
TEST_P(MatMulTest, OutputIsRoundedToTheTypeAndRowsBehindItAreLeftAlone) {
  ExpectExact(48, 128, 9, {.f32 = false});
  ExpectExact(48, 128, 9, {.f32 = false, .y_stride = 72});
  ExpectExact(17, 128, 9, {.f32 = false, .y_stride = 19});
  ExpectExact(18, 128, 9, {.f32 = true, .y_stride = 20});
}

TEST_P(MatMulTest, RandomNumbersAreAsCloseAsFloatGets) {
  std::mt19937 random(7);
  constexpr int64_t kRows = 80, kCols = 1536, kTokens = 17;
  const QuantizedMatrix w = cpu::RandomMatrix(source(), kRows, kCols, &random);
  const std::vector<uint16_t> x = Narrow(type(), Uniform(kTokens * kCols, &random));
  const std::vector<float> wide = Widen(type(), x);
  const std::vector<double> expected = Reference(w, type(), wide);
  const std::vector<float> y = Multiply(DeviceMatrix(w, type()), x);
  // The low-precision reference adds in float, from the first to the last.
  const std::vector<float> values =
      FormatOf(w.type) == MatrixFormat::kPlain ? Widen(type(), Narrow(type(), w.values)) : w.values;
  double error = 0, low_error = 0, magnitude = 0;
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t r = 0; r < kRows; ++r) {
      const size_t i = static_cast<size_t>(t * kRows + r);
      float low = 0;
      double sum = 0;
      for (int64_t c = 0; c < kCols; ++c) {
        const float product = wide[t * kCols + c] * values[r * kCols + c];
        low += product;
        sum += std::fabs(product);
      }
      low_error = std::max(low_error, std::fabs(low - expected[i]));
      error = std::max(error, std::fabs(y[i] - expected[i]));
      magnitude = std::max(magnitude, sum);
    }
  }
  EXPECT_LE(error, 2 * low_error + std::ldexp(magnitude, -24));
}

TEST_P(MatMulTest, EveryTileGivesTheSameBits) {
  std::mt19937 random(11);
  constexpr int64_t kRows = 144, kCols = 576, kTokens = 70;
  const QuantizedMatrix w = cpu::RandomMatrix(source(), kRows, kCols, &random);
  const DeviceMatrix on_device(w, type());
  const std::vector<uint16_t> x = Narrow(type(), Uniform(kTokens * kCols, &random));
  const std::vector<float> expected = Multiply(on_device, x, {.tile = {8, 4}});
  for (const int tokens : kTokenTiles) {
    for (const int row_warps : {1, 2, 4}) {
      const std::vector<float> y = Multiply(on_device, x, {.tile = {tokens, row_warps}});
      for (size_t i = 0; i < y.size(); ++i) {
        ASSERT_EQ(std::bit_cast<uint32_t>(y[i]), std::bit_cast<uint32_t>(expected[i]))
            << tokens << " tokens, " << row_warps << " warps, token " << i / kRows;
      }
    }
  }
  // And a token alone.
  const std::vector<uint16_t> last(x.end() - kCols, x.end());
  const std::vector<float> alone = Multiply(on_device, last);
  for (int64_t r = 0; r < kRows; ++r) {
    ASSERT_EQ(std::bit_cast<uint32_t>(alone[r]),
              std::bit_cast<uint32_t>(expected[(kTokens - 1) * kRows + r]));
  }
}

TEST_P(MatMulTest, WhatIsNotANumberStaysWithItsToken) {
  std::mt19937 random(13);
  constexpr int64_t kRows = 32, kCols = 96, kTokens = 12;
  const DeviceMatrix w(cpu::RandomMatrix(source(), kRows, kCols, &random), type());
  std::vector<float> x = Uniform(kTokens * kCols, &random);
  const std::vector<float> clean = Multiply(w, Narrow(type(), x));
  x[kFew * kCols + 40] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> y = Multiply(w, Narrow(type(), x));
  for (int64_t i = 0; i < kTokens * kRows; ++i) {
    if (i / kRows == kFew) {
      EXPECT_TRUE(std::isnan(y[i]));
    } else {
      EXPECT_EQ(y[i], clean[i]);
    }
  }
}

TEST(MatMulOfOneFormatTest, AVocabularyAndAPromptAreExact) {
  SKIP_WITHOUT_DEVICE();
  std::mt19937 random(3);
  const QuantizedMatrix w = WholeMatrix(DType::kQ8_0, 49152, 64, &random);
  const std::vector<float> x = WholeNumbers(64, 4, &random);
  const std::vector<float> y = Multiply(DeviceMatrix(w, DType::kBF16), Narrow(DType::kBF16, x));
  const std::vector<double> expected = Reference(w, DType::kBF16, x);
  for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], expected[i]) << i;

  const QuantizedMatrix plain = WholeMatrix(DType::kBF16, 192, 576, &random);
  const std::vector<float> prompt = WholeNumbers(512 * 576, 4, &random);
  const std::vector<float> many =
      Multiply(DeviceMatrix(plain, DType::kBF16), Narrow(DType::kBF16, prompt));
  const std::vector<double> wanted = Reference(plain, DType::kBF16, prompt);
  for (size_t i = 0; i < many.size(); ++i) ASSERT_EQ(many[i], wanted[i]) << i;
}

TEST(MatMulOfOneFormatTest, OtherQuantisedFormatsAreWidened) {
  SKIP_WITHOUT_DEVICE();
  std::mt19937 random(5);
  for (const DType source : {DType::kF32, DType::kQ5_0, DType::kQ4_K, DType::kQ6_K}) {
    EXPECT_EQ(FormatOf(source), MatrixFormat::kPlain);
    const QuantizedMatrix w = cpu::RandomMatrix(source, 32, 256, &random);
    const std::vector<float> x = WholeNumbers(256, 1, &random);
    const std::vector<float> y = Multiply(DeviceMatrix(w, DType::kBF16), Narrow(DType::kBF16, x));
    const std::vector<double> expected = Reference(w, DType::kBF16, x);
    for (size_t i = 0; i < y.size(); ++i)
      ASSERT_NEAR(y[i], expected[i], 256 * w.magnitude / (1 << 24));
  }
}

}  // namespace
}  // namespace trireme::cuda
