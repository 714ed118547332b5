#include <cmath>
#include <cstring>

#include "gmock/gmock.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cpu_rows/tables.h"

namespace trireme::cpu {
namespace {

class RopeTest : public testing::TestWithParam<const Kernels*> {
 protected:
  const Kernels& kernels() const { return *GetParam(); }
};

std::vector<float> Frequencies(int rotary_dim, double theta) {
  std::vector<float> frequencies(rotary_dim / 2);
  for (int i = 0; i < rotary_dim / 2; ++i) {
    frequencies[i] = static_cast<float>(std::pow(theta, -2.0 * i / rotary_dim));
  }
  return frequencies;
}

struct Shape {
  int rotary_dim, head_dim;
};

TEST_P(RopeTest, AgreesWithReferenceInBothPairOrdersAndPartially) {
  constexpr int kHeads = 5;
  for (const Shape shape : {Shape{64, 64}, {128, 128}, {32, 80}, {20, 64}, {2, 16}, {256, 256}}) {
    const auto frequencies = Frequencies(shape.rotary_dim, 10000.0);
    for (bool interleaved : {false, true}) {
      const RopeTable table{shape.rotary_dim, interleaved, frequencies.data(), 1.25f};
      for (int64_t position : {0, 1, 17, 1000, 8191, 131071, 1048575, 10000000}) {
        const auto x = Normal(kHeads * shape.head_dim, 1);
        auto y = x;
        std::vector<double> expected(x.size());
        kernels().rope(table, position, kHeads, shape.head_dim, y.data());
        reference::Rope(table, position, kHeads, shape.head_dim, x.data(), expected.data());
        for (size_t i = 0; i < x.size(); ++i) {
          // sin, cos, two products and a sum round; |a| + |b| stays below 10 here.
          ASSERT_NEAR(y[i], expected[i], 4 * 0x1p-24 * 10 * 1.25) << position << ' ' << i;
        }
      }
    }
  }
}

TEST_P(RopeTest, PositionZeroChangesNothing) {
  const auto frequencies = Frequencies(64, 500000.0);
  const RopeTable table{64, false, frequencies.data(), 1.0f};
  const auto x = Normal(3 * 64, 2);
  auto y = x;
  kernels().rope(table, 0, 3, 64, y.data());
  EXPECT_EQ(x, y);
}

TEST_P(RopeTest, WithoutRotaryDimensionNothingChanges) {
  const auto x = Normal(3 * 64, 2);
  auto y = x;
  kernels().rope(RopeTable{}, 99, 3, 64, y.data());
  EXPECT_EQ(x, y);
}

TEST_P(RopeTest, AHeadDoesNotDependOnTheHeadsBesideIt) {
  const auto frequencies = Frequencies(64, 10000.0);
  for (bool interleaved : {false, true}) {
    const RopeTable table{64, interleaved, frequencies.data(), 1.0f};
    const auto x = Normal(6 * 64, 3);
    auto together = x, alone = x;
    kernels().rope(table, 777, 6, 64, together.data());
    for (int h = 0; h < 6; ++h) kernels().rope(table, 777, 1, 64, alone.data() + h * 64);
    EXPECT_EQ(together, alone);
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, RopeTest, testing::ValuesIn(TablesUnderTest()),
                         [](const auto& info) { return TableName(info.param); });

TEST(RopeAcrossIsasTest, InstructionSetDoesNotChangeABit) {
  const auto frequencies = Frequencies(80, 10000.0);
  const auto x = Normal(80, 4);
  std::vector<float> first;
  for (const Kernels* kernels : TablesUnderTest()) {
    auto y = x;
    kernels->rope(RopeTable{80, true, frequencies.data(), 1.5f}, 12345, 1, 80, y.data());
    if (first.empty()) first = y;
    EXPECT_EQ(y, first) << kernels->name;
  }
}

}  // namespace
}  // namespace trireme::cpu
