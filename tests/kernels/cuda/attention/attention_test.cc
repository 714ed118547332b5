// Small cases: each runs on the simulator once for every architecture.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "tests/kernels/cuda/attention/attention_case.h"
#include "tests/kernels/cuda/device_memory.h"
#if TRIREME_GPUSIM
#include "tests/gpusim/gpusim.h"
#endif

namespace trireme::cuda {
namespace {

using Bits = std::vector<uint16_t>;

class AttentionTest : public testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT_DEVICE(); }
  void TearDown() override {
#if TRIREME_GPUSIM
    EXPECT_THAT(gpusim::TakeFindings(), testing::IsEmpty());
#endif
  }
  static void ExpectRight(const AttentionCaseOptions& options, const std::vector<Share>& shares) {
    const AttentionCase problem(options);
    EXPECT_LE(problem.Error(shares, problem.Run(shares)), 1);
  }
  // Rows of tokens [first, first + count).
  static Bits Rows(const Bits& out, const AttentionCaseOptions& options, int first, int count) {
    const int row = options.num_heads * options.head_dim;
    return Bits(out.begin() + first * row, out.begin() + (first + count) * row);
  }
  static void ExpectSameBitsInChunks(const AttentionCaseOptions& options, int context,
                                     const std::vector<int>& steps, const std::vector<int>& alone) {
    AttentionCaseOptions with_context = options;
    with_context.contexts = {context};
    const AttentionCase problem(with_context);
    const Bits whole = problem.Run({{0, 0, context}});
    EXPECT_TRUE(problem.RunInSteps(0, steps) == whole);
    for (const int position : alone) {
      EXPECT_TRUE(problem.Run({{0, position, 1}}) == Rows(whole, options, position, 1)) << position;
    }
  }
};

// One kernel each.
struct Variant {
  DType type = DType::kBF16;
  int head_dim = 64;
  float soft_cap = 0.0f;
};
class AttentionVariantTest : public AttentionTest, public testing::WithParamInterface<Variant> {};
INSTANTIATE_TEST_SUITE_P(All, AttentionVariantTest,
                         testing::Values(Variant{DType::kBF16, 64}, Variant{DType::kBF16, 96},
                                         Variant{DType::kBF16, 128}, Variant{DType::kBF16, 256},
                                         Variant{DType::kF16, 64}, Variant{DType::kF16, 96},
                                         Variant{DType::kF16, 128}, Variant{DType::kF16, 256},
                                         Variant{DType::kBF16, 64, 3}, Variant{DType::kBF16, 96, 3},
                                         Variant{DType::kBF16, 128, 3},
                                         Variant{DType::kBF16, 256, 3}, Variant{DType::kF16, 64, 3},
                                         Variant{DType::kF16, 96, 3}, Variant{DType::kF16, 128, 3},
                                         Variant{DType::kF16, 256, 3}),
                         [](const testing::TestParamInfo<Variant>& info) {
                           return std::string(DTypeName(info.param.type)) + "Of" +
                                  std::to_string(info.param.head_dim) +
                                  (info.param.soft_cap > 0 ? "Capped" : "");
                         });

TEST_P(AttentionVariantTest, DecodeAgreesWithTheReference) {
  const auto [type, head_dim, soft_cap] = GetParam();
  ExpectRight({.type = type,
               .num_heads = 4,
               .num_kv_heads = 1,
               .head_dim = head_dim,
               .soft_cap = soft_cap,
               .contexts = {17, 300}},
              {{0, 16, 1}, {1, 299, 1}});
}

TEST_P(AttentionVariantTest, APromptBehindCachedKeysAgreesWithTheReference) {
  const auto [type, head_dim, soft_cap] = GetParam();
  ExpectRight({.type = type,
               .num_heads = 2,
               .num_kv_heads = 1,
               .head_dim = head_dim,
               .block_size = 32,
               .soft_cap = soft_cap,
               .contexts = {290}},
              {{0, 250, 40}});
}

TEST_P(AttentionVariantTest, APromptIsTheSameBitsInChunksAndTokenByToken) {
  const auto [type, head_dim, soft_cap] = GetParam();
  ExpectSameBitsInChunks(
      {.type = type, .num_heads = 1, .num_kv_heads = 1, .head_dim = head_dim, .soft_cap = soft_cap},
      270, {100, 5, 90, 75}, {0, 15, 16, 255, 256, 269});
}

TEST_P(AttentionVariantTest, PromptsOfSeveralItemsWithAWindowAndSinksAgreeWithTheReference) {
  const auto [type, head_dim, soft_cap] = GetParam();
  AttentionCaseOptions options{.type = type,
                               .num_heads = 3,
                               .num_kv_heads = 1,
                               .head_dim = head_dim,
                               .soft_cap = soft_cap,
                               .sinks = true,
                               .contexts = {290, 47}};
  const std::vector<Share> shares = {{0, 240, 50}, {1, 0, 47}};
  ExpectRight(options, shares);
  options.window = 90;
  ExpectRight(options, shares);
}

#if TRIREME_GPUSIM
TEST_F(AttentionTest, WgmmaPrefillsOnHopperAndNowhereElse) {
  for (const int head_dim : {64, 96, 128, 256}) {
    const AttentionCase problem({.head_dim = head_dim, .contexts = {70}});
    problem.Run({{0, 0, 70}});
    const gpusim::Counters counters = gpusim::CountersOfLastLaunch();
    EXPECT_EQ(counters.wgmma > 0, PrefillRows() == kHopperPrefillRows);
    EXPECT_EQ(counters.mma > 0, PrefillRows() == kPrefillRows);
    const char* const arch = std::getenv("TRIREME_GPUSIM_ARCH");
    EXPECT_EQ(counters.wgmma > 0, arch != nullptr && arch == std::string_view("sm_90a"));
  }
}
#endif

TEST_F(AttentionTest, ContextsAroundTheEdgesOfBlocksTilesAndChunksAgreeWithTheReference) {
  for (const int block_size : {16, 32}) {
    ExpectRight({.num_heads = 4,
                 .num_kv_heads = 2,
                 .block_size = block_size,
                 .contexts = {1, 15, 16, 17, 255, 256, 257, 700}},
                {{0, 0, 1},
                 {1, 14, 1},
                 {2, 15, 1},
                 {3, 16, 1},
                 {4, 254, 1},
                 {5, 255, 1},
                 {6, 256, 1},
                 {7, 699, 1}});
  }
}

// 20 heads to a KV head are more rows than a warp has, 80 more than four warps, 150 more than two
// warpgroups.
TEST_F(AttentionTest, GroupsOfAnySizeAgreeWithTheReference) {
  for (const int group : {1, 3, 4, 8, 20, 80}) {
    ExpectRight({.num_heads = group, .num_kv_heads = 1, .contexts = {70, 40, 300}},
                {{0, 0, 70}, {1, 39, 1}, {2, 297, 3}});
  }
  ExpectRight({.num_heads = 150, .num_kv_heads = 1, .contexts = {20}}, {{0, 0, 20}});
}

TEST_F(AttentionTest, TheSameBitsWhateverSharesTheStep) {
  const AttentionCaseOptions options{
      .num_heads = 6, .num_kv_heads = 2, .contexts = {300, 90, 17, 270}};
  const AttentionCase problem(options);
  const std::vector<Share> shares = {{0, 299, 1}, {1, 20, 70}, {2, 0, 17}, {3, 268, 2}};
  const Bits together = problem.Run(shares);
  EXPECT_LE(problem.Error(shares, together), 1);
  int token = 0;
  for (const Share& share : shares) {
    EXPECT_TRUE(problem.Run({share}) == Rows(together, options, token, share.num_tokens))
        << share.sequence;
    token += share.num_tokens;
  }
}

TEST_F(AttentionTest, AGraphCapturedBeforeThereWasWorkServesAnyStep) {
  AttentionCaseOptions options{.num_heads = 2, .num_kv_heads = 1, .contexts = {300, 60}};
  const std::vector<std::vector<Share>> steps = {
      {{0, 299, 1}, {1, 59, 1}}, {{1, 0, 60}}, {{0, 260, 40}, {1, 59, 1}}};
  const AttentionCase eager(options);
  options.captured = true;
  const AttentionCase captured(options);
  for (const auto& shares : steps) EXPECT_TRUE(captured.Run(shares) == eager.Run(shares));
}

// What lies before every window is NaN and has no entry in the table (attention_case.cc).
TEST_F(AttentionTest, AWindowSeesItsTokensOnlyAndIsTheSameBitsInChunks) {
  for (const int window : {1, 40, 64, 260}) {
    const AttentionCaseOptions options{
        .num_heads = 2, .num_kv_heads = 1, .window = window, .contexts = {560}};
    ExpectRight(options, {{0, 500, 60}});
    ExpectRight(options, {{0, 559, 1}});
    ExpectRight(options, {{0, 0, 80}});
    ExpectSameBitsInChunks(options, 340, {100, 30, 140, 70}, {0, 63, 64, 255, 256, 300, 339});
  }
}

TEST_F(AttentionTest, SinksAreFoldedInOnceAndAreTheSameBitsInChunks) {
  for (const int head_dim : {64, 256}) {
    AttentionCaseOptions options{.num_heads = 2,
                                 .num_kv_heads = 1,
                                 .head_dim = head_dim,
                                 .window = 20,
                                 .sinks = true,
                                 .contexts = {600}};
    ExpectRight(options, {{0, 520, 80}});
    options.window = 0;
    ExpectRight(options, {{0, 599, 1}});
    ExpectRight(options, {{0, 560, 40}});
    ExpectSameBitsInChunks(options, 270, {100, 30, 80, 60}, {0, 255, 256, 269});
  }
}

// Scores that differ by hundreds: what was summed up before the greatest is gone, bit by bit.
TEST_F(AttentionTest, ScoresFarApartAreTheSameBitsInChunks) {
  ExpectSameBitsInChunks({.num_heads = 1, .num_kv_heads = 1, .scale = 200}, 300, {130, 3, 97, 70},
                         {0, 64, 255, 256, 299});
}

#if TRIREME_GPUSIM
void ExpectCounts(const AttentionCaseOptions& options, const Share& share, bool decode) {
  const AttentionCase problem(options);
  problem.Run({share});
  const AttentionWork work = problem.Plan({share});
  const gpusim::Counters counters = gpusim::CountersOfLastLaunch();
  EXPECT_EQ(work.decode.empty(), !decode);
  ASSERT_TRUE(work.merge.empty());  // it would be the last launch
  if (!decode && PrefillRows() == kHopperPrefillRows) {
    EXPECT_EQ(counters.wgmma, problem.NumWgmma(work.prefill));
    EXPECT_EQ(counters.mma, 0u);
  } else {
    EXPECT_EQ(counters.mma, problem.NumMma(decode ? work.decode : work.prefill, decode ? 1 : 4));
  }
  EXPECT_LE(static_cast<double>(counters.global_sectors),
            1.05 * static_cast<double>(counters.global_sectors_min));
  EXPECT_EQ(counters.shared_waves, counters.shared_waves_min);
}

TEST_F(AttentionTest, CountsAreThoseOfTheTilesAndEverySectorIsUsed) {
  for (const int head_dim : {64, 96, 128, 256}) {
    const AttentionCaseOptions options{
        .num_heads = 4, .num_kv_heads = 1, .head_dim = head_dim, .contexts = {300}};
    ExpectCounts(options, {0, 200, 1}, true);
    ExpectCounts(options, {0, 230, 40}, false);
    AttentionCaseOptions windowed = options;
    windowed.window = 70;
    ExpectCounts(windowed, {0, 255, 1}, true);
    ExpectCounts(windowed, {0, 150, 40}, false);
  }
}

// What one more chunk of KV costs, fold included: PTX instructions beside each mma, of which ptxas
// saves a part. A wgmma counts as the mma of its size.
TEST_F(AttentionTest, AChunkMoreCostsFewInstructionsBesideItsMma) {
  for (const auto& [head_dim, most] : {std::pair(64, 9.5), {96, 9.5}, {128, 9.0}, {256, 9.5}}) {
    const AttentionCaseOptions options{
        .num_heads = 4, .num_kv_heads = 1, .head_dim = head_dim, .contexts = {1024}};
    const AttentionCase problem(options);
    problem.Run({{0, 480, 32}});
    const gpusim::Counters less = gpusim::CountersOfLastLaunch();
    problem.Run({{0, 736, 32}});
    const gpusim::Counters more = gpusim::CountersOfLastLaunch();
    const auto beside = [](const gpusim::Counters& c) { return c.total() - c.mma - 4 * c.wgmma; };
    const uint64_t instructions = beside(more) - beside(less);
    const int mma = 2 * 128 * kChunk * head_dim / (16 * 8 * 16);
    const bool hopper = PrefillRows() == kHopperPrefillRows;
    EXPECT_LE(static_cast<double>(instructions) / mma, hopper ? 8.0 : most) << head_dim;
  }
}

TEST_F(AttentionTest, NoScheduleChangesTheBits) {
  const AttentionCase problem({.num_heads = 3, .num_kv_heads = 1, .contexts = {330, 280}});
  const std::vector<Share> shares = {{0, 290, 40}, {1, 279, 1}};
  const Bits first = problem.Run(shares);
  for (uint64_t seed = 10; seed < 14; ++seed) {
    gpusim::SetSeed(seed);
    EXPECT_TRUE(problem.Run(shares) == first) << seed;
  }
}
#endif

}  // namespace
}  // namespace trireme::cuda
