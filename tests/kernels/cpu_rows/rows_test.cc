#include <cmath>
#include <cstring>
#include <limits>

#include "gmock/gmock.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cpu_rows/tables.h"

namespace trireme::cpu {
namespace {

constexpr double kUnit = 0x1p-24;  // unit roundoff of float
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int64_t kLengths[] = {1, 7, 8, 16, 31, 32, 33, 100, 576, 1536, 4099};

class RowsTest : public testing::TestWithParam<const Kernels*> {
 protected:
  const Kernels& kernels() const { return *GetParam(); }
};

TEST_P(RowsTest, RmsNormAgreesWithReference) {
  for (int64_t n : kLengths) {
    const auto x = Normal(n, 1, 3.0f), gain = Normal(n, 2);
    std::vector<float> y(n);
    std::vector<double> expected(n);
    kernels().rms_norm(x.data(), gain.data(), 1e-5f, n, y.data());
    reference::RmsNorm(x.data(), gain.data(), 1e-5f, n, expected.data());
    // Sum of positive terms: n / 32 + 5 roundings, halved by the root; then four of the scaling
    // itself.
    const double tolerance = ((n / 32.0 + 8) / 2 + 5) * kUnit;
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_NEAR(y[i], expected[i], tolerance * std::abs(expected[i])) << n << ' ' << i;
    }
  }
}

TEST_P(RowsTest, RmsNormMayWorkInPlace) {
  const auto x = Normal(77, 1), gain = Normal(77, 2);
  std::vector<float> y(77), in_place = x;
  kernels().rms_norm(x.data(), gain.data(), 1e-5f, 77, y.data());
  kernels().rms_norm(in_place.data(), gain.data(), 1e-5f, 77, in_place.data());
  EXPECT_EQ(y, in_place);
}

TEST_P(RowsTest, RmsNormOfZerosIsZero) {
  const std::vector<float> x(40), gain(40, 1.0f);
  std::vector<float> y(40, kNan);
  kernels().rms_norm(x.data(), gain.data(), 1e-5f, 40, y.data());
  EXPECT_THAT(y, testing::Each(0.0f));
}

TEST_P(RowsTest, AddRmsNormUpdatesTheResidualAndNormalizesIt) {
  for (int64_t n : kLengths) {
    auto x = Normal(n, 3);
    const auto delta = Normal(n, 4), gain = Normal(n, 5);
    std::vector<float> y(n), sum(n);
    std::vector<double> expected(n);
    reference::AddRmsNorm(x.data(), delta.data(), gain.data(), 1e-6f, n, sum.data(),
                          expected.data());
    kernels().add_rms_norm(x.data(), delta.data(), gain.data(), 1e-6f, n, y.data());
    EXPECT_EQ(x, sum);
    const double tolerance = ((n / 32.0 + 8) / 2 + 5) * kUnit;
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_NEAR(y[i], expected[i], tolerance * std::abs(expected[i])) << n << ' ' << i;
    }
  }
}

TEST_P(RowsTest, AddAddsEveryElementOnce) {
  for (int64_t n : kLengths) {
    auto x = Normal(n, 6);
    const auto delta = Normal(n, 7), before = x;
    kernels().add(x.data(), delta.data(), n);
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(x[i], before[i] + delta[i]);
  }
}

TEST_P(RowsTest, NothingBeyondTheRowIsTouched) {
  for (int64_t n : kLengths) {
    std::vector<float> x(n + 16, 1.0f), y(n + 16, 7.0f);
    const std::vector<float> other(n, 2.0f);
    kernels().rms_norm(other.data(), other.data(), 1e-5f, n, y.data());
    kernels().add(x.data(), other.data(), n);
    for (int64_t i = n; i < n + 16; ++i) {
      ASSERT_EQ(x[i], 1.0f);
      ASSERT_EQ(y[i], 7.0f);
    }
  }
}

TEST_P(RowsTest, ActivationsAgreeWithReference) {
  std::vector<float> gate;
  for (float x = -100.0f; x <= 100.0f; x += 0.0173f) gate.push_back(x);
  for (float x : {0.0f, 1e-30f, -1e-30f, 1e-5f, 1e20f, 3e38f}) gate.push_back(x);
  const std::vector<float> up(gate.size(), 1.0f);
  std::vector<float> out(gate.size());
  for (Activation act : {Activation::kSilu, Activation::kGeluTanh, Activation::kGelu}) {
    kernels().gated_activation(act, gate.data(), up.data(), gate.size(), out.data());
    for (size_t i = 0; i < gate.size(); ++i) {
      // The factor in [0, 1] is within 8 roundings of one.
      const double tolerance = 8 * kUnit * std::abs(gate[i]);
      ASSERT_NEAR(out[i], reference::Activate(act, gate[i]), tolerance) << gate[i];
    }
  }
}

TEST_P(RowsTest, SiluIsAccurateRelativeToItsOwnSize) {
  std::vector<float> gate;
  for (float x = -80.0f; x <= 20.0f; x += 0.0173f) gate.push_back(x);
  const std::vector<float> up(gate.size(), 1.0f);
  std::vector<float> out(gate.size());
  kernels().gated_activation(Activation::kSilu, gate.data(), up.data(), gate.size(), out.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    const double expected = reference::Activate(Activation::kSilu, gate[i]);
    ASSERT_NEAR(out[i], expected, 6 * kUnit * std::abs(expected)) << gate[i];
  }
}

TEST_P(RowsTest, GateIsMultipliedByUpForEveryLength) {
  for (int64_t n : kLengths) {
    const auto gate = Normal(n, 8, 4.0f), up = Normal(n, 9);
    std::vector<float> out(n);
    std::vector<double> expected(n);
    kernels().gated_activation(Activation::kSilu, gate.data(), up.data(), n, out.data());
    reference::GatedActivation(Activation::kSilu, gate.data(), up.data(), n, expected.data());
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_NEAR(out[i], expected[i], 8 * kUnit * std::abs(expected[i]));
    }
  }
}

TEST_P(RowsTest, AnElementDoesNotDependOnItsLane) {
  // The same values at another offset, some of them in a partial vector.
  const auto gate = Normal(100, 10, 4.0f), up = Normal(100, 11);
  std::vector<float> all(100), shifted(93);
  for (Activation act : {Activation::kSilu, Activation::kGeluTanh, Activation::kGelu}) {
    kernels().gated_activation(act, gate.data(), up.data(), 100, all.data());
    kernels().gated_activation(act, gate.data() + 7, up.data() + 7, 93, shifted.data());
    EXPECT_EQ(0, std::memcmp(all.data() + 7, shifted.data(), 93 * sizeof(float)));
  }
}

TEST_P(RowsTest, NanStaysInItsElement) {
  std::vector<float> gate = {1.0f, kNan, 2.0f, kInfinity, -1.0f, 0.5f, 0.25f, 3.0f, 4.0f, kNan};
  const std::vector<float> up(gate.size(), 1.0f);
  std::vector<float> out(gate.size());
  for (Activation act : {Activation::kSilu, Activation::kGeluTanh, Activation::kGelu}) {
    kernels().gated_activation(act, gate.data(), up.data(), gate.size(), out.data());
    for (size_t i = 0; i < gate.size(); ++i)
      EXPECT_EQ(std::isnan(out[i]), std::isnan(gate[i])) << i;
    EXPECT_EQ(out[3], kInfinity);
  }
}

TEST_P(RowsTest, NanInANormalizedRowReachesTheRow) {
  std::vector<float> x(64, 1.0f), gain(64, 1.0f), y(64);
  x[5] = kNan;
  kernels().rms_norm(x.data(), gain.data(), 1e-5f, 64, y.data());
  for (float value : y) EXPECT_TRUE(std::isnan(value));
}

INSTANTIATE_TEST_SUITE_P(Isa, RowsTest, testing::ValuesIn(TablesUnderTest()),
                         [](const auto& info) { return TableName(info.param); });

// FMA rounds twice in the portable table, so only the others agree.
TEST(RowsAcrossIsasTest, VectorWidthDoesNotChangeABit) {
  const Kernels* first = nullptr;
  for (const Kernels* table : TablesUnderTest()) {
    if (table->name == "portable") continue;
    if (first == nullptr) first = table;
    for (int64_t n : kLengths) {
      const auto x = Normal(n, 13, 3.0f), gain = Normal(n, 14);
      std::vector<float> y(n), expected(n);
      first->rms_norm(x.data(), gain.data(), 1e-5f, n, expected.data());
      table->rms_norm(x.data(), gain.data(), 1e-5f, n, y.data());
      EXPECT_EQ(y, expected) << table->name << ' ' << n;
      for (Activation act : {Activation::kSilu, Activation::kGeluTanh, Activation::kGelu}) {
        first->gated_activation(act, x.data(), gain.data(), n, expected.data());
        table->gated_activation(act, x.data(), gain.data(), n, y.data());
        EXPECT_EQ(y, expected) << table->name << ' ' << n;
      }
    }
  }
}

}  // namespace
}  // namespace trireme::cpu
