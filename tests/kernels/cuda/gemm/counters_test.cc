// What the kernels ask of the memories and of the matrix units, counted by the simulator.
#if TRIREME_GPUSIM
#include <gtest/gtest.h>

#include "tests/gpusim/gpusim.h"
#include "tests/kernels/cuda/gemm/matrix_case.h"

namespace trireme::cuda {
namespace {

class MatMulCountersTest : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Formats, MatMulCountersTest,
                         testing::Values(DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

TEST_P(MatMulCountersTest, EveryTileMultipliesOnceAndMovesWholeSectorsWithoutBankConflicts) {
  std::mt19937 random(1);
  constexpr int64_t kRows = 192, kCols = 640;
  const DeviceMatrix w(cpu::RandomMatrix(GetParam(), kRows, kCols, &random), DType::kBF16,
                       Uniform(kRows, &random));
  for (const int tokens : kTokenTiles) {
    for (const int row_warps : {1, 2, 4}) {
      const MatMulTile tile{tokens, row_warps};
      const int64_t num_tokens = tokens + 3;
      const std::vector<float> x = Uniform(static_cast<size_t>(num_tokens * kCols), &random);
      Multiply(w, Narrow(DType::kBF16, x), {.f32 = false, .tile = tile});
      const gpusim::Counters counters = gpusim::CountersOfLastLaunch();
      SCOPED_TRACE(testing::Message() << tokens << " tokens, " << row_warps << " warps");

      const int64_t ctas = 2 * ((kRows + tile.rows() - 1) / tile.rows());
      const int64_t row_tiles = tile.rows() / 16, groups = tokens / 8;
      // Four products of 16 columns a step; Q4_1: as many for the sums of x in each row of warps.
      const int64_t products = row_tiles + (GetParam() == DType::kQ4_1 ? row_warps : 0);
      EXPECT_EQ(counters.mma, static_cast<uint64_t>(ctas * (kCols / 64) * 4 * groups * products));
      EXPECT_LE(static_cast<double>(counters.global_sectors),
                1.05 * static_cast<double>(counters.global_sectors_min));
      EXPECT_EQ(counters.shared_waves, counters.shared_waves_min);
      // Each row tile is copied once for each tile of tokens, x once for each row of CTAs.
      const auto tile_bytes = PackedBytes(w.get().format, kRows, kCols);
      EXPECT_EQ(counters.cp_async_bytes,
                2 * tile_bytes + static_cast<uint64_t>(ctas / 2 * num_tokens * kCols * 2));
    }
  }
}

// What 640 columns more cost: PTX instructions beside each mma, of which ptxas saves a part. Few
// tokens share the dequantisation of a weight among few mma.
TEST_P(MatMulCountersTest, AColumnMoreCostsFewInstructionsBesideItsMma) {
  std::mt19937 random(1);
  constexpr int64_t kRows = 128, kCols[] = {640, 1280};
  struct Budget {
    int tokens;
    double plain, quantized;
  };
  for (const Budget& budget : {Budget{16, 16.5, 27}, {64, 4.8, 9}, {128, 4.2, 8.5}}) {
    uint64_t beside[2], mma[2];
    for (int i = 0; i < 2; ++i) {
      const DeviceMatrix w(cpu::RandomMatrix(GetParam(), kRows, kCols[i], &random), DType::kBF16);
      const std::vector<float> x = Uniform(static_cast<size_t>(budget.tokens * kCols[i]), &random);
      Multiply(w, Narrow(DType::kBF16, x), {.f32 = false, .tile = {budget.tokens, 4}});
      const gpusim::Counters counters = gpusim::CountersOfLastLaunch();
      mma[i] = counters.mma;
      beside[i] = counters.total() - counters.mma;
    }
    const double each =
        static_cast<double>(beside[1] - beside[0]) / static_cast<double>(mma[1] - mma[0]);
    EXPECT_LE(each, GetParam() == DType::kBF16 ? budget.plain : budget.quantized) << budget.tokens;
  }
}

TEST(EmbedCountersTest, WholeSectorsAreStored) {
  std::mt19937 random(1);
  const DeviceMatrix table(cpu::RandomMatrix(DType::kQ8_0, 64, 576, &random), DType::kBF16);
  DeviceArray<int32_t> tokens(std::vector<int32_t>{5, 60, 33, 8});
  DeviceArray<float> x(4 * 576);
  Check(Embed(table.get(), 0, tokens.get(), 4, 1.0f, x.get(), nullptr));
  Check(cudaDeviceSynchronize());
  const gpusim::Counters counters = gpusim::CountersOfLastLaunch();
  // A token reads four words of each of its 36 k steps' 64 bytes of codes, and stores 64 bytes for
  // them.
  EXPECT_LE(counters.global_sectors, 4 * 36 * (2 + 2 + 2 + 1 + 1));
  EXPECT_LE(32.0 * static_cast<double>(counters.total()) / (4 * 576), 45);  // of a lane, an element
}

}  // namespace
}  // namespace trireme::cuda
#endif
