#include "runtime/base/quant_formats.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace trireme {
namespace {

struct Golden {
  std::string blocks;
  std::vector<float> values;
};

// tests/golden/quant_golden.bin: see make_quant_golden.py.
Golden ReadGolden(std::string_view type) {
  std::ifstream file(TRIREME_SOURCE_DIR "/tests/golden/quant_golden.bin", std::ios::binary);
  char name[9] = {};
  while (file.read(name, 8)) {
    uint32_t sizes[2];
    file.read(reinterpret_cast<char*>(sizes), sizeof(sizes));
    Golden golden{std::string(sizes[0], '\0'), std::vector<float>(sizes[1])};
    file.read(golden.blocks.data(), sizes[0]);
    file.read(reinterpret_cast<char*>(golden.values.data()), sizes[1] * sizeof(float));
    if (type == name) return golden;
  }
  return {};
}

class QuantFormats : public testing::TestWithParam<DType> {};

TEST_P(QuantFormats, DecodesExactlyAsTheGgufPackage) {
  const Golden golden = ReadGolden(DTypeName(GetParam()));
  const auto n = static_cast<int64_t>(golden.values.size());
  ASSERT_GT(n, 0);
  ASSERT_EQ(static_cast<int64_t>(golden.blocks.size()), RowBytes(GetParam(), n));
  std::string unaligned = "x" + golden.blocks;
  std::vector<float> out(golden.values.size());
  DequantizeRow(GetParam(), unaligned.data() + 1, n, out.data());
  EXPECT_EQ(out, golden.values);
}

INSTANTIATE_TEST_SUITE_P(AllBlockTypes, QuantFormats,
                         testing::Values(DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                         DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

TEST(QuantFormats, PlainTypesAreWidened) {
  const float f32[] = {1.5f, -2.0f};
  const uint16_t f16[] = {FloatToF16(1.5f), FloatToF16(-2.0f)};
  const uint16_t bf16[] = {FloatToBF16(1.5f), FloatToBF16(-2.0f)};
  const std::pair<DType, const void*> rows[] = {
      {DType::kF32, f32}, {DType::kF16, f16}, {DType::kBF16, bf16}};
  for (const auto& [type, row] : rows) {
    float out[2] = {};
    DequantizeRow(type, row, 2, out);
    EXPECT_EQ(out[0], 1.5f) << DTypeName(type);
    EXPECT_EQ(out[1], -2.0f) << DTypeName(type);
  }
}

}  // namespace
}  // namespace trireme
