#include <cmath>
#include <cstring>

#include "kernels/cuda/fused/rows.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/rows/rows_case.h"

namespace trireme::cuda {
namespace {

constexpr float kEps = 1e-5f;

struct Norm {
  std::vector<float> x;  // behind the call
  std::vector<uint16_t> y;
};

class NormsTest : public RowsTest {
 protected:
  // `delta` empty: RmsNorm; of several times x's size: shares.
  static Norm Run(const std::vector<float>& x, const std::vector<uint16_t>& delta,
                  const std::vector<float>& gain) {
    const auto cols = static_cast<int64_t>(gain.size());
    const int64_t rows = static_cast<int64_t>(x.size()) / cols;
    const DeviceArray<float> device_x(x), device_gain(gain);
    const DeviceArray<uint16_t> device_delta(delta), y(x.size());
    Check(delta.empty() ? RmsNorm(type(), device_x.get(), device_gain.get(), kEps, rows, cols,
                                  y.get(), nullptr)
                        : AddRmsNorm(type(), device_x.get(), device_delta.get(),
                                     static_cast<int>(delta.size() / x.size()), device_gain.get(),
                                     kEps, rows, cols, y.get(), nullptr));
    ExpectFewSectors();
    return {device_x.Read(), y.Read()};
  }
};

TEST_P(NormsTest, RmsNormAgreesWithReferenceForEveryLength) {
  for (const int64_t cols : {8, 96, 576, 2048, 2056, 7168, 8200, 32768}) {
    const int64_t rows = cols <= 576 ? 5 : 2;
    const auto x = Normal(rows * cols, 1, 3.0f), gain = Normal(cols, 2);
    const Norm norm = Run(x, {}, gain);
    EXPECT_EQ(norm.x, x);
    std::vector<double> exact(x.size());
    for (int64_t row = 0; row < rows; ++row) {
      reference::RmsNorm(x.data() + row * cols, gain.data(), kEps, cols, exact.data() + row * cols);
    }
    ExpectRounded(type(), Widen(type(), norm.y), exact, 0);
  }
}

TEST_P(NormsTest, AddRmsNormUpdatesTheResidualAndNormalizesIt) {
  for (const int64_t cols : {8, 576, 2048, 7168, 8200}) {
    const int64_t rows = 3;
    const auto x = Normal(rows * cols, 3, 3.0f), gain = Normal(cols, 4);
    const auto delta = Narrow(type(), Normal(rows * cols, 5));
    const auto wide = Widen(type(), delta);
    const Norm norm = Run(x, delta, gain);
    std::vector<float> sum(x.size());
    std::vector<double> exact(x.size());
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t at = row * cols;
      reference::AddRmsNorm(x.data() + at, wide.data() + at, gain.data(), kEps, cols,
                            sum.data() + at, exact.data() + at);
    }
    EXPECT_EQ(norm.x, sum);
    ExpectRounded(type(), Widen(type(), norm.y), exact, 0);
  }
}

TEST_P(NormsTest, SharesAreSummedInTheirOrderAndRoundedOnce) {
  const int64_t cols = 576, rows = 3, size = rows * cols;
  for (const int64_t num_shares : {2, 3, 8}) {
    const auto x = Normal(size, 6, 3.0f), gain = Normal(cols, 7);
    // Of many magnitudes: another order gives other sums.
    auto values = Normal(num_shares * size, 8);
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = std::ldexp(values[i], static_cast<int>(i * 7 % 12));
    const auto shares = Narrow(type(), values);
    const auto wide = Widen(type(), shares);
    std::vector<float> sum(x.size());
    for (size_t i = 0; i < wide.size(); ++i) sum[i % x.size()] += wide[i];
    const auto delta = Narrow(type(), sum);
    const Norm shared = Run(x, shares, gain), whole = Run(x, delta, gain);
    EXPECT_EQ(shared.x, whole.x);
    EXPECT_EQ(shared.y, whole.y);
  }
}

TEST_P(NormsTest, IntegersAreExact) {
  const int64_t cols = 584;
  std::vector<float> x(cols), gain(cols);
  std::vector<double> exact(cols);
  std::vector<uint16_t> delta = Narrow(type(), std::vector<float>(cols, 1));
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = i % 3 == 0 ? 63 : -65;  // 64 and -64 with delta
    gain[i] = static_cast<float>(i % 100);
    exact[i] = i % 3 == 0 ? gain[i] : -gain[i];
  }
  ExpectRounded(type(), Widen(type(), Run(x, delta, gain).y), exact, 0);
  const auto y = Widen(type(), Run(x, delta, gain).y);
  EXPECT_TRUE(std::equal(y.begin(), y.end(), exact.begin()));
}

TEST_P(NormsTest, ARowHasTheSameBitsAloneAndAmongOthers) {
  const int64_t cols = 2048, rows = 37;
  const auto x = Normal(rows * cols, 6, 2.0f), gain = Normal(cols, 7);
  const auto delta = Narrow(type(), Normal(rows * cols, 8));
  const Norm all = Run(x, delta, gain);
  for (const int64_t row : {int64_t{0}, int64_t{17}, rows - 1}) {
    const int64_t at = row * cols;
    const Norm alone = Run({x.begin() + at, x.begin() + at + cols},
                           {delta.begin() + at, delta.begin() + at + cols}, gain);
    EXPECT_TRUE(std::equal(alone.y.begin(), alone.y.end(), all.y.begin() + at));
    EXPECT_TRUE(std::equal(alone.x.begin(), alone.x.end(), all.x.begin() + at));
  }
}

TEST_P(NormsTest, NanStaysInItsRow) {
  const int64_t cols = 64, rows = 3;
  auto x = Normal(rows * cols, 9);
  x[cols + 5] = kNan;
  const auto y = Widen(type(), Run(x, {}, std::vector<float>(cols, 1.0f)).y);
  for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i / cols == 1) << i;
}

TEST_P(NormsTest, ZerosStayZerosAndNoRowsAreNoWork) {
  EXPECT_THAT(Widen(type(), Run(std::vector<float>(40), {}, std::vector<float>(40, 1.0f)).y),
              testing::Each(0.0f));
  EXPECT_EQ(RmsNorm(type(), nullptr, nullptr, kEps, 0, 40, nullptr, nullptr), cudaSuccess);
}

TEST(NormsOfOtherTypesTest, AreRefused) {
  EXPECT_EQ(RmsNorm(DType::kF32, nullptr, nullptr, kEps, 1, 40, nullptr, nullptr),
            cudaErrorInvalidValue);
}

TEST_P(NormsTest, AnElementCostsFewInstructions) {
  constexpr int64_t kCols = 4096, kElements = 2 * kCols;
  const auto x = Normal(kElements, 1), gain = Normal(kCols, 2);
  Run(x, {}, gain);
  ExpectInstructions(kElements, 14.5);
  Run(x, Narrow(type(), Normal(kElements, 3)), gain);
  ExpectInstructions(kElements, 20);
}

INSTANTIATE_TEST_SUITE_P(Types, NormsTest, testing::Values(DType::kBF16, DType::kF16), TypeName);

}  // namespace
}  // namespace trireme::cuda
