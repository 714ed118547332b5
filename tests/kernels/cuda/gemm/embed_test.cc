#include <gtest/gtest.h>

#include "tests/kernels/cuda/gemm/matrix_case.h"

namespace trireme::cuda {
namespace {

TEST(EmbedTest, RowsOfEveryFormatAreGatheredAndScaled) {
  SKIP_WITHOUT_DEVICE();
  std::mt19937 random(1);
  constexpr int64_t kRows = 43, kCols = 96;
  const std::vector<int32_t> ids = {0, 42, 7, 8, 15, 16, 7, 31, 33};
  for (const DType source :
       {DType::kBF16, DType::kF16, DType::kF32, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1}) {
    for (const DType type : {DType::kBF16, DType::kF16}) {
      const QuantizedMatrix w = cpu::RandomMatrix(source, kRows, kCols, &random);
      const DeviceMatrix table(w, type);
      DeviceArray<int32_t> tokens(ids);
      DeviceArray<float> x(ids.size() * kCols);
      Check(Embed(table.get(), 0, tokens.get(), static_cast<int64_t>(ids.size()), 1.5f, x.get(),
                  nullptr));
      const std::vector<float> values =
          IsQuantized(source) ? w.values : Widen(type, Narrow(type, w.values));
      const std::vector<float> got = x.Read();
      for (size_t i = 0; i < got.size(); ++i) {
        const float want = values[ids[i / kCols] * kCols + i % kCols];
        // A fused multiply-add of Q4_1's m saves one rounding.
        ASSERT_NEAR(got[i], 1.5f * want, source == DType::kQ4_1 ? 1e-7 : 0)
            << DTypeName(source) << " token " << i / kCols << " column " << i % kCols;
      }
    }
  }
}

TEST(EmbedTest, IdsThatTheTableDoesNotHaveGiveZeros) {
  SKIP_WITHOUT_DEVICE();
  std::mt19937 random(2);
  const DeviceMatrix table(cpu::RandomMatrix(DType::kBF16, 20, 40, &random), DType::kBF16);
  DeviceArray<int32_t> tokens(std::vector<int32_t>{-1, 20, 1 << 30});
  DeviceArray<float> x(3 * 40);
  Check(Embed(table.get(), 0, tokens.get(), 3, 1.0f, x.get(), nullptr));
  for (const float v : x.Read()) EXPECT_EQ(v, 0.0f);
}

TEST(EmbedTest, APartOfATableBeginsAtItsFirstToken) {
  SKIP_WITHOUT_DEVICE();
  std::mt19937 random(3);
  for (const DType source : {DType::kBF16, DType::kQ4_1}) {
    const DeviceMatrix table(cpu::RandomMatrix(source, 20, 64, &random), DType::kBF16);
    DeviceArray<int32_t> tokens(std::vector<int32_t>{99, 100, 119, 120}), rows({-1, 0, 19, 20});
    DeviceArray<float> x(4 * 64), y(4 * 64);
    Check(Embed(table.get(), 100, tokens.get(), 4, 1.0f, x.get(), nullptr));
    Check(Embed(table.get(), 0, rows.get(), 4, 1.0f, y.get(), nullptr));
    EXPECT_EQ(x.Read(), y.Read());
  }
}

}  // namespace
}  // namespace trireme::cuda
