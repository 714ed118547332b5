// Which work a step's attention is; the host's part, no device.
#include <gtest/gtest.h>

#include <vector>

#include "kernels/cuda/attention/attention.h"

namespace trireme::cuda {
namespace {

constexpr AttentionShape kShape{.num_heads = 8, .num_kv_heads = 2, .head_dim = 128};

TEST(AttentionPlanTest, OneTokenOfAShortSequenceIsOneDecodeItemWithoutAMerge) {
  const AttentionWork work = PlanAttention({{{3, 5, 1, 255}}}, kShape);
  EXPECT_TRUE(work.prefill.empty());
  EXPECT_TRUE(work.merge.empty());
  EXPECT_EQ(work.partial_rows, 0);
  ASSERT_EQ(work.decode.size(), 1u);
  const AttentionItem& item = work.decode[0];
  EXPECT_EQ(item.sequence, 3);
  EXPECT_EQ(item.first_token, 5);
  EXPECT_EQ(item.num_tokens, 1);
  EXPECT_EQ(item.first_position, 255);
  EXPECT_EQ(item.first_chunk, 0);
  EXPECT_EQ(item.end_chunk, 1);
  EXPECT_EQ(item.partial, -1);
}

TEST(AttentionPlanTest, EachChunkOfALongSequenceHasItsOwnItemAndPlace) {
  const AttentionWork work = PlanAttention({{{0, 0, 2, 600}}}, kShape);
  ASSERT_EQ(work.decode.size(), 3u);
  for (int c = 0; c < 3; ++c) {
    EXPECT_EQ(work.decode[c].first_chunk, c);
    EXPECT_EQ(work.decode[c].end_chunk, c + 1);
    EXPECT_EQ(work.decode[c].partial, c * 2 * kShape.num_heads);
  }
  ASSERT_EQ(work.merge.size(), 1u);
  EXPECT_EQ(work.merge[0].partial, 0);
  EXPECT_EQ(work.merge[0].num_tokens, 2);
  EXPECT_EQ(work.merge[0].end_chunk, 3);
  EXPECT_EQ(work.partial_rows, 3 * 2 * kShape.num_heads);
}

TEST(AttentionPlanTest, AWindowLeavesOutChunksBeforeIt) {
  AttentionShape shape = kShape;
  shape.window = 100;
  const AttentionWork one = PlanAttention({{{0, 0, 1, 700}}}, shape);
  ASSERT_EQ(one.decode.size(), 1u);
  EXPECT_EQ(one.decode[0].first_chunk, 2);
  const AttentionWork two = PlanAttention({{{0, 0, 1, 800}}}, shape);  // [701, 800]
  ASSERT_EQ(two.decode.size(), 2u);
  EXPECT_EQ(two.decode[0].first_chunk, 2);
  EXPECT_EQ(two.decode[1].first_chunk, 3);
}

TEST(AttentionPlanTest, APlanMadeAnewIsTheSameAndKeepsItsMemory) {
  const std::vector<QuerySlice> slices = {{0, 0, 300, 0}, {1, 300, 200, 900}, {2, 500, 1, 700}};
  const AttentionWork once = PlanAttention(slices, kShape);
  AttentionWork kept = once;
  const AttentionItem* const memory[] = {kept.prefill.data(), kept.decode.data(),
                                         kept.merge.data()};
  for (const size_t count : {1, 2, 3}) {
    PlanAttention(absl::MakeConstSpan(slices).first(count), kShape, {}, &kept);
  }
  EXPECT_EQ(kept.prefill.data(), memory[0]);
  EXPECT_EQ(kept.decode.data(), memory[1]);
  EXPECT_EQ(kept.merge.data(), memory[2]);
  EXPECT_EQ(kept.partial_rows, once.partial_rows);
  ASSERT_EQ(kept.prefill.size(), once.prefill.size());
  for (size_t i = 0; i < once.prefill.size(); ++i) {
    EXPECT_EQ(kept.prefill[i].first_token, once.prefill[i].first_token);
  }
  EXPECT_EQ(kept.decode.size(), once.decode.size());
  EXPECT_EQ(kept.merge.size(), once.merge.size());
}

TEST(AttentionPlanTest, APromptIsCutIntoItemsOf64RowsTheLongestFirst) {
  const AttentionWork work = PlanAttention({{{0, 10, 300, 0}}}, kShape);
  EXPECT_TRUE(work.decode.empty());
  ASSERT_EQ(work.prefill.size(), 19u);  // 16 tokens of 4 heads each
  EXPECT_EQ(work.prefill.front().end_chunk, 2);
  EXPECT_EQ(work.prefill.back().end_chunk, 1);
  int tokens = 0;
  for (const AttentionItem& item : work.prefill) {
    tokens += item.num_tokens;
    EXPECT_LE(item.num_tokens, 16);
    EXPECT_EQ(item.first_token, 10 + item.first_position);
    EXPECT_EQ(item.partial, -1);  // registers hold the running state
  }
  EXPECT_EQ(tokens, 300);
}

TEST(AttentionPlanTest, ItemsHaveTheRowsThatTheDevicesKernelTakes) {
  AttentionShape shape = kShape;
  shape.prefill_rows = kHopperPrefillRows;
  const AttentionWork work = PlanAttention({{{0, 0, 300, 0}}}, shape);
  ASSERT_EQ(work.prefill.size(), 10u);  // 32 tokens of 4 heads each
  for (const AttentionItem& item : work.prefill) EXPECT_LE(item.num_tokens, 32);
  shape.num_heads = 2 * 200;  // a group of more rows than an item has
  EXPECT_EQ(PlanAttention({{{0, 0, 3, 0}}}, shape).prefill.size(), 3u);
}

TEST(AttentionPlanTest, LongPromptsOfWideHeadsKeepTheirStateInMemory) {
  AttentionShape shape = kShape;
  shape.head_dim = 256;
  const AttentionWork work = PlanAttention({{{0, 0, 272, 0}}}, shape);
  EXPECT_EQ(work.partial_rows, 16 * shape.num_heads);  // only the last item has two chunks
  EXPECT_EQ(work.prefill.front().partial, 0);
  EXPECT_EQ(work.prefill.back().partial, -1);
}

TEST(AttentionPlanTest, ASequencesWorkDoesNotDependOnItsNeighbours) {
  const QuerySlice slice{1, 40, 1, 1000}, neighbour{0, 0, 40, 5};
  const AttentionWork alone = PlanAttention({{slice}}, kShape);
  const AttentionWork both = PlanAttention({{neighbour, slice}}, kShape);
  ASSERT_EQ(both.decode.size(), alone.decode.size());
  for (size_t i = 0; i < alone.decode.size(); ++i) {
    EXPECT_EQ(both.decode[i].first_chunk, alone.decode[i].first_chunk);
    EXPECT_EQ(both.decode[i].num_tokens, alone.decode[i].num_tokens);
  }
}

TEST(AttentionPlanTest, KernelsExistForFourHeadDimsAndBlocksOfPowersOfTwo) {
  for (const int dim : {64, 96, 128, 256}) EXPECT_TRUE(HasAttention(dim, 16));
  EXPECT_FALSE(HasAttention(80, 16));
  EXPECT_FALSE(HasAttention(64, 8));
  EXPECT_FALSE(HasAttention(64, 48));
}

}  // namespace
}  // namespace trireme::cuda
