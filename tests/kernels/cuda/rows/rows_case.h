// What the tests of the row operators share.
#pragma once

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/kernels/cuda/device_memory.h"
#if TRIREME_GPUSIM
#include "tests/gpusim/gpusim.h"
#endif

namespace trireme::cuda {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Standard normal values times `scale`.
inline std::vector<float> Normal(int64_t n, uint64_t seed, float scale = 1.0f) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) value = normal(random);
  return values;
}

// Every result is within twice the error that rounding the exact one to `type` may have, plus
// `floor`.
inline void ExpectRounded(DType type, const std::vector<float>& actual,
                          const std::vector<double>& exact, double floor) {
  ASSERT_EQ(actual.size(), exact.size());
  const double unit = type == DType::kBF16 ? 0x1p-9 : 0x1p-12;
  const double smallest = type == DType::kBF16 ? 0 : 0x1p-25;  // half a step below f16's range
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], exact[i], 2 * (std::abs(exact[i]) * unit + smallest) + floor) << i;
  }
}

// The last launch asked for hardly more sectors than its bytes take.
inline void ExpectFewSectors() {
#if TRIREME_GPUSIM
  Check(cudaDeviceSynchronize());
  const gpusim::Counters counters = gpusim::CountersOfLastLaunch();
  EXPECT_LE(counters.global_sectors, counters.global_sectors_min * 105 / 100);
  EXPECT_EQ(counters.shared_waves, counters.shared_waves_min);
#endif
}

// The last launch, which was about `n` elements, took a lane few PTX instructions for each; ptxas
// saves a part of them.
inline void ExpectInstructions([[maybe_unused]] size_t n, [[maybe_unused]] double most) {
#if TRIREME_GPUSIM
  Check(cudaDeviceSynchronize());
  const auto total = static_cast<double>(gpusim::CountersOfLastLaunch().total());
  EXPECT_LE(32 * total / static_cast<double>(n), most);
#endif
}

// For both element types.
class RowsTest : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override { SKIP_WITHOUT_DEVICE(); }
  static DType type() { return GetParam(); }
};
inline std::string TypeName(const testing::TestParamInfo<DType>& info) {
  return std::string(DTypeName(info.param));
}

}  // namespace trireme::cuda
