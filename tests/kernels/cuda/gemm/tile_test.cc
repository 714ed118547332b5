// The choice of a tile is plain host code.
#include "kernels/cuda/gemm/tile.h"

#include <gtest/gtest.h>

namespace trireme::cuda {
namespace {

constexpr MatrixFormat kFormats[] = {MatrixFormat::kPlain, MatrixFormat::kQ8_0, MatrixFormat::kQ4_0,
                                     MatrixFormat::kQ4_1};

TEST(TileTest, FewTokensTakeTheNarrowestTileThatHoldsThem) {
  for (const MatrixFormat format : kFormats) {
    for (const int num_sms : {108, 142, 132, 148}) {
      for (int num_tokens = 1; num_tokens <= 8; ++num_tokens) {
        EXPECT_EQ(ChooseTile(format, num_tokens, 4096, num_sms).tokens, 8);
      }
    }
  }
}

TEST(TileTest, ASmallMatrixIsSpreadOverTheSms) {
  const MatMulTile tile = ChooseTile(MatrixFormat::kPlain, 1, 576, 108);
  EXPECT_EQ(tile.rows(), 16);
}

TEST(TileTest, AVocabularyTakesManyRowsACta) {
  EXPECT_EQ(ChooseTile(MatrixFormat::kPlain, 1, 128256, 108).row_warps, 4);
}

TEST(TileTest, APromptTakesTheWidestTile) {
  for (const MatrixFormat format : kFormats) {
    const MatMulTile tile = ChooseTile(format, 4096, 8192, 132);
    EXPECT_EQ(tile.tokens, 128);
    EXPECT_EQ(tile.rows(), 128);
  }
}

TEST(TileTest, NoTileIsWiderThanItsTokensNeed) {
  for (int64_t num_tokens = 1; num_tokens < 300; ++num_tokens) {
    for (const int64_t rows : {17, 576, 4096, 49152}) {
      const MatMulTile tile = ChooseTile(MatrixFormat::kQ4_0, num_tokens, rows, 108);
      EXPECT_TRUE(tile.tokens == 8 || tile.tokens < 2 * num_tokens);
      EXPECT_LE(tile.threads(), 256);
    }
  }
}

}  // namespace
}  // namespace trireme::cuda
