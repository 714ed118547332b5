#include "server/cli/bandwidth.h"

#include <gtest/gtest.h>

#include "absl/time/time.h"

namespace trireme {
namespace {

TEST(RateWindowsTest, TheBestTenthCountsAndNotTheWhole) {
  RateWindows windows(absl::Seconds(2));  // parts of 200 ms
  EXPECT_TRUE(windows.Count(absl::Milliseconds(10), 100));
  EXPECT_TRUE(windows.Count(absl::Milliseconds(190), 100));
  EXPECT_TRUE(windows.Count(absl::Milliseconds(1000), 250));
  EXPECT_TRUE(windows.Count(absl::Milliseconds(1999), 150));
  EXPECT_DOUBLE_EQ(windows.BestPerSecond(), 250 / 0.2);
}

TEST(RateWindowsTest, NothingCountsOnceTheTimeIsOver) {
  RateWindows windows(absl::Seconds(1));
  EXPECT_FALSE(windows.Count(absl::Seconds(1), 7));
  EXPECT_FALSE(windows.Count(absl::Seconds(9), 7));
  EXPECT_EQ(windows.BestPerSecond(), 0);
}

TEST(BandwidthTest, MemoryIsReadAndCounted) {
  const absl::StatusOr<int64_t> bandwidth = MeasureReadBandwidth(1, absl::Milliseconds(500));
  ASSERT_TRUE(bandwidth.ok()) << bandwidth.status();
  EXPECT_GT(*bandwidth, 0);
}

}  // namespace
}  // namespace trireme
