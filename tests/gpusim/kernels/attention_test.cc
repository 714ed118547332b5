#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/gpusim/gpusim.h"
#include "tests/gpusim/kernels/attention_case.h"

namespace trireme::gpusim {
namespace {

void ExpectRight(const AttentionShape& shape, uint64_t seed) {
  SetSeed(seed);
  AttentionCase problem(shape, seed);
  ASSERT_EQ(LaunchAttention(problem.params(), problem.batch(), nullptr), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_THAT(TakeFindings(), testing::IsEmpty());
  EXPECT_LE(problem.MaxError(), problem.Tolerance());
  const Counters counters = CountersOfLastLaunch();
  EXPECT_EQ(counters.mma, problem.NumMma());
  EXPECT_LE(static_cast<double>(counters.global_sectors),
            1.05 * static_cast<double>(counters.global_sectors_min));
  EXPECT_EQ(counters.shared_waves, counters.shared_waves_min);
}

TEST(AttentionTest, OneTokenOfEachSequenceAgreesWithTheReference) {
  ExpectRight({.q_len = 1, .kv_heads = 2, .group = 4, .kv_lens = {1, 17, 64, 150}}, 1);
}

TEST(AttentionTest, APromptAgreesWithTheReference) {
  ExpectRight({.q_len = 70, .kv_heads = 1, .group = 2, .kv_lens = {70}}, 2);
}

TEST(AttentionTest, AChunkBehindCachedKeysAgreesWithTheReference) {
  ExpectRight({.q_len = 33, .kv_heads = 1, .group = 3, .kv_lens = {200, 33}}, 3);
}

TEST(AttentionTest, NoScheduleChangesWhatIsFound) {
  for (uint64_t seed = 10; seed < 16; ++seed) {
    ExpectRight({.q_len = 5, .kv_heads = 1, .group = 8, .kv_lens = {260}}, seed);
  }
}

}  // namespace
}  // namespace trireme::gpusim
