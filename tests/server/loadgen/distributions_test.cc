// Lengths, arrivals, SLOs, histograms: the arithmetic of a run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "server/loadgen/arrivals.h"
#include "server/loadgen/histogram.h"
#include "server/loadgen/lengths.h"
#include "server/loadgen/parse.h"
#include "server/loadgen/slo.h"

namespace trireme::loadgen {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Le;

std::vector<int> Draws(const char* text, int count, uint64_t seed = 1) {
  const auto lengths = LengthDistribution::Parse(text);
  EXPECT_TRUE(lengths.ok()) << lengths.status();
  Random random(seed);
  std::vector<int> out;
  for (int i = 0; i < count; ++i) out.push_back(lengths->Draw(&random));
  return out;
}

TEST(Lengths, FixedIsAlwaysTheSame) { EXPECT_THAT(Draws("128", 100), Each(128)); }

TEST(Lengths, UniformReachesBothEndsAndNothingBeyond) {
  const std::vector<int> draws = Draws("uniform:3:5", 1000);
  EXPECT_THAT(draws, Each(AllOf(Ge(3), Le(5))));
  for (const int length : {3, 4, 5}) {
    EXPECT_NEAR(std::count(draws.begin(), draws.end(), length), 333, 5 * std::sqrt(222)) << length;
  }
}

TEST(Lengths, LognormalHasTheMeanThatWasAsked) {
  const int n = 200000;
  const std::vector<int> draws = Draws("lognormal:200:0.5", n);
  double sum = 0;
  for (const int length : draws) sum += length;
  const double deviation = 200 * std::sqrt(std::exp(0.25) - 1);
  EXPECT_NEAR(sum / n, 200, 5 * deviation / std::sqrt(n));
  EXPECT_THAT(Draws("lognormal:2:3", 10000), Each(AllOf(Ge(1), Le(kMaxLengthTokens))));
}

TEST(Lengths, EqualSeedsDrawEqualLengths) {
  EXPECT_EQ(Draws("uniform:1:1000", 50, 7), Draws("uniform:1:1000", 50, 7));
  EXPECT_NE(Draws("uniform:1:1000", 50, 7), Draws("uniform:1:1000", 50, 8));
}

TEST(Lengths, MistakesAreRefused) {
  for (const char* text : {"", "0", "-1", "1.5", "1e99", "nan", "uniform:5:3", "uniform:1", "4:8",
                           "lognormal:0:1", "lognormal:10:9", "uniform:1:2:3", "128 "}) {
    const auto lengths = LengthDistribution::Parse(text);
    EXPECT_FALSE(lengths.ok()) << text;
  }
}

TEST(Arrivals, ConstantIsEvenlySpacedFromZeroWithoutDrift) {
  Arrivals arrivals(ArrivalKind::kConstant, 3, 1);
  for (int i = 0; i < 3000; ++i) {
    ASSERT_NEAR(static_cast<double>(arrivals.Next().count()), i * 1e9 / 3, 1) << i;
  }
}

TEST(Arrivals, PoissonHasExponentialGapsOfTheRate) {
  Arrivals arrivals(ArrivalKind::kPoisson, 100, 42);
  const int n = 100000;
  int64_t last = 0;
  double sum = 0, squares = 0;
  for (int i = 0; i < n; ++i) {
    const int64_t now = arrivals.Next().count();
    ASSERT_GE(now, last);
    const double gap = static_cast<double>(now - last) / 1e9;
    sum += gap;
    squares += gap * gap;
    last = now;
  }
  const double mean = sum / n;
  EXPECT_NEAR(mean, 0.01, 5 * 0.01 / std::sqrt(n));
  EXPECT_NEAR(std::sqrt(squares / n - mean * mean), 0.01, 0.0005);  // deviation equals the mean
}

TEST(Arrivals, EqualSeedsArriveAtEqualTimes) {
  Arrivals one(ArrivalKind::kPoisson, 5, 1), same(ArrivalKind::kPoisson, 5, 1);
  Arrivals other(ArrivalKind::kPoisson, 5, 2);
  const auto first = one.Next();
  EXPECT_EQ(first, same.Next());
  EXPECT_NE(first, other.Next());
}

TEST(HistogramTest, PercentilesAreWithinTheStatedErrorOfExactOnes) {
  Random random(3);
  Histogram histogram;
  std::vector<int64_t> values;
  for (int i = 0; i < 20000; ++i) {  // from nanoseconds to hours
    values.push_back(static_cast<int64_t>(std::exp(random.Uniform() * 30)));
    histogram.Add(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double percent : {0.0, 1.0, 50.0, 90.0, 99.0, 99.9, 100.0}) {
    const auto rank = static_cast<size_t>(std::max(1.0, std::ceil(percent / 100 * 20000)));
    const auto exact = static_cast<double>(values[rank - 1]);
    EXPECT_NEAR(histogram.PercentileNs(percent), exact, exact * Histogram::kRelativeError)
        << percent;
  }
  EXPECT_EQ(histogram.max_ns(), values.back());
  EXPECT_EQ(histogram.count(), 20000);
}

TEST(HistogramTest, EveryPowerOfTwoAndItsNeighboursHaveABucket) {
  for (int bit = 0; bit < 63; ++bit) {
    for (const int64_t offset : {-1, 0, 1}) {
      const int64_t value = (int64_t{1} << bit) + offset;
      Histogram histogram;
      histogram.Add(value);
      const auto exact = static_cast<double>(value);
      EXPECT_NEAR(histogram.PercentileNs(50), exact, exact * Histogram::kRelativeError) << value;
    }
  }
  Histogram largest;
  largest.Add(INT64_MAX);
  EXPECT_GT(largest.PercentileNs(50), 9e18);
}

TEST(HistogramTest, WithoutEventsEverythingIsZero) {
  const Histogram histogram;
  EXPECT_EQ(histogram.PercentileNs(99), 0);
  EXPECT_EQ(histogram.mean_ns(), 0);
}

TEST(HistogramTest, NegativeCountsAsZero) {
  Histogram histogram;
  histogram.Add(-5);
  EXPECT_EQ(histogram.PercentileNs(50), 0);
}

TEST(SloTest, BoundsAreReadInAnyOrder) {
  const auto slo = Slo::Parse("itl=50ms,ttft=1.5s");
  ASSERT_TRUE(slo.ok()) << slo.status();
  EXPECT_EQ(slo->ttft, absl::Milliseconds(1500));
  EXPECT_EQ(slo->itl, absl::Milliseconds(50));
  EXPECT_FALSE(slo->e2e.has_value());
  EXPECT_TRUE(slo->any());
}

TEST(SloTest, MistakesNameTheBound) {
  for (const char* text : {"", "ttft", "ttft=", "ttft=5", "ttft=-1s", "ttft=inf", "tpot=1s", "=1s",
                           "ttft=1s,", "ttft=1s;itl=1s"}) {
    EXPECT_FALSE(Slo::Parse(text).ok()) << text;
  }
  EXPECT_THAT(std::string(Slo::Parse("ttft=1s,ttft=2s").status().message()), HasSubstr("ttft"));
}

TEST(ParseTimeTest, NeedsAUnitAndABound) {
  EXPECT_EQ(*ParseTime("250ms"), absl::Milliseconds(250));
  EXPECT_EQ(*ParseTime("1m30s"), absl::Seconds(90));
  for (const char* text : {"", "5", "0s", "-1s", "inf", "1000h", "1x"}) {
    EXPECT_FALSE(ParseTime(text).ok()) << text;
  }
}

}  // namespace
}  // namespace trireme::loadgen
