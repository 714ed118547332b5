// The oracle against numbers worked out by hand.
#include "kernels/reference/reference.h"

#include <cmath>
#include <vector>

#include "gmock/gmock.h"

namespace trireme::reference {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::Pointwise;

constexpr double kExact = 1e-12;

TEST(ReferenceTest, MatMulTakesDotProductsWithRowsAndAddsTheBias) {
  const float x[] = {1, 2, 3, -1, 0, 1}, w[] = {1, 1, 1, 2, 0, -1}, bias[] = {10, 20};
  double y[4];
  MatMul(x, w, bias, 2, 2, 3, y);
  EXPECT_THAT(y, ElementsAre(16, 19, 10, 17));
  MatMul(x, w, nullptr, 2, 2, 3, y);
  EXPECT_THAT(y, ElementsAre(6, -1, 0, -3));
}

TEST(ReferenceTest, RmsNormDividesByTheRootMeanSquare) {
  const float x[] = {3, 4, 0, 0}, gain[] = {1, 2, 3, 4};  // mean square 25 / 4
  double y[4];
  RmsNorm(x, gain, 0.0f, 4, y);
  EXPECT_THAT(y, ElementsAre(1.2, 3.2, 0, 0));
  RmsNorm(x, gain, 6.0f, 4, y);  // root of 6.25 + 6 is 3.5
  EXPECT_NEAR(y[0], 3 / 3.5, kExact);
}

TEST(ReferenceTest, AddRmsNormNormalizesTheSum) {
  const float x[] = {1, 1}, delta[] = {2, 3}, gain[] = {1, 1};
  float sum[2];
  double y[2];
  AddRmsNorm(x, delta, gain, 0.0f, 2, sum, y);
  EXPECT_THAT(sum, ElementsAre(3, 4));
  EXPECT_NEAR(y[0], 3 / std::sqrt(12.5), kExact);
  EXPECT_NEAR(y[1], 4 / std::sqrt(12.5), kExact);
}

TEST(ReferenceTest, ActivationsHaveTheirPublishedValuesAtOne) {
  EXPECT_NEAR(Activate(Activation::kSilu, 1), 0.731058578630005, kExact);
  EXPECT_NEAR(Activate(Activation::kGelu, 1), 0.841344746068543, kExact);
  EXPECT_NEAR(Activate(Activation::kGeluTanh, 1), 0.841191990608277, kExact);
  for (Activation act : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh}) {
    EXPECT_EQ(Activate(act, 0), 0);
    EXPECT_NEAR(Activate(act, 50), 50, kExact);
    EXPECT_NEAR(Activate(act, -50), 0, kExact);
  }
}

TEST(ReferenceTest, GateIsMultipliedByUp) {
  const float gate[] = {0, 1}, up[] = {5, 2};
  double out[2];
  GatedActivation(Activation::kSilu, gate, up, 2, out);
  EXPECT_EQ(out[0], 0);
  EXPECT_NEAR(out[1], 2 * 0.731058578630005, kExact);
}

TEST(ReferenceTest, RopeRotatesHalvesOrNeighboursAndLeavesTheRest) {
  const float quarter_turn[] = {static_cast<float>(M_PI / 2), 0.0f};
  const float x[] = {1, 2, 3, 4, 5, 6};
  double y[6];
  Rope({4, false, quarter_turn, 1.0f}, 1, 1, 6, x,
       y);  // pairs (0, 2) by 90 degrees, (1, 3) by none
  EXPECT_THAT(y, Pointwise(DoubleNear(1e-6), {-3, 2, 1, 4, 5, 6}));
  Rope({4, true, quarter_turn, 2.0f}, 1, 1, 6, x, y);  // pairs (0, 1), (2, 3), doubled
  EXPECT_THAT(y, Pointwise(DoubleNear(1e-6), {-4, 2, 6, 8, 5, 6}));
}

// One KV head of two dimensions in blocks of two slots.
class ReferenceAttentionTest : public testing::Test {
 protected:
  ReferenceAttentionTest() {
    // Keys 0 and ln 3 along the first dimension: weights 1/4 and 3/4. Block table {1, 0}.
    const float keys[3][2] = {{0, 9}, {std::log(3.0f), 9}, {0, 9}};
    const float values[3][2] = {{4, 0}, {8, 4}, {100, 100}};
    for (int p = 0; p < 3; ++p) StoreKv(kv_, blocks_[p / 2], p % 2, keys[p], values[p]);
  }
  std::vector<double> Attend(const AttentionParams& params, int64_t position) {
    const float q[2] = {1, 0};
    std::vector<double> out(2);
    Attention(params, kv_, blocks_, position, 1, q, 2, out.data());
    return out;
  }

  std::vector<float> k_ = std::vector<float>(8), v_ = std::vector<float>(8);
  KvLayerView kv_{k_.data(), v_.data(), DType::kF32, 1, 2, 2, 4};
  std::vector<BlockId> blocks_ = {1, 0};
};

TEST_F(ReferenceAttentionTest, KeysLieTransposedAndValuesInRows) {
  EXPECT_THAT(k_, ElementsAre(0, 0, 9, 0, 0, std::log(3.0f), 9, 9));
  EXPECT_THAT(v_, ElementsAre(100, 100, 0, 0, 4, 0, 8, 4));
}

TEST_F(ReferenceAttentionTest, WeightsAreTheSoftmaxOfTheScores) {
  EXPECT_THAT(Attend({.num_heads = 1}, 0), ElementsAre(4, 0));
  EXPECT_THAT(Attend({.num_heads = 1}, 1), Pointwise(DoubleNear(1e-6), {7, 3}));
}

TEST_F(ReferenceAttentionTest, ScaleMultipliesTheScores) {
  EXPECT_THAT(Attend({.num_heads = 1, .scale = 0.0f}, 1), ElementsAre(6, 2));
}

TEST_F(ReferenceAttentionTest, WindowHidesOlderPositions) {
  EXPECT_THAT(Attend({.num_heads = 1, .window = 1}, 1), ElementsAre(8, 4));
}

TEST_F(ReferenceAttentionTest, SinkTakesWeightToNowhere) {
  const float sink = std::log(4.0f);  // weights 1, 3 of 8
  EXPECT_THAT(Attend({.num_heads = 1, .sinks = &sink}, 1), Pointwise(DoubleNear(1e-6), {3.5, 1.5}));
}

TEST_F(ReferenceAttentionTest, SoftCapBoundsTheScores) {
  const double capped = std::tanh(std::log(3.0));  // 0.8
  const double weight = std::exp(capped) / (1 + std::exp(capped));
  const auto out = Attend({.num_heads = 1, .soft_cap = 1.0f}, 1);
  EXPECT_NEAR(out[0], 4 + 4 * weight, 1e-6);
}

TEST_F(ReferenceAttentionTest, QueryHeadsShareTheirGroupsKvHead) {
  const float q[4] = {1, 0, 1, 0};
  std::vector<double> out(4);
  Attention({.num_heads = 2}, kv_, blocks_, 1, 1, q, 4, out.data());
  EXPECT_THAT(out, Pointwise(DoubleNear(1e-6), {7, 3, 7, 3}));
}

}  // namespace
}  // namespace trireme::reference
