// Small cases: each runs on the simulator once for every architecture.
#include "tests/kernels/cuda/attention/attention_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/kernels/cuda/device_memory.h"
#if TRIREME_GPUSIM
#include "tests/gpusim/gpusim.h"
#endif

namespace trireme::cuda {
namespace {

class AttentionTest : public testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT_DEVICE(); }
  // One step, against the reference; and what it counted.
  void ExpectRight(const AttentionCaseOptions& options, const std::vector<Share>& shares) {
    const AttentionCase problem(options);
    problem.ExpectRight(shares, problem.Run(shares));
#if TRIREME_GPUSIM
    EXPECT_THAT(gpusim::TakeFindings(), testing::IsEmpty());
#endif
  }
};

TEST_F(AttentionTest, OneTokenOfEachSequenceAgreesWithTheReference) {
  ExpectRight({.num_heads = 4, .num_kv_heads = 2, .contexts = {1, 15, 16, 17, 255, 256, 257, 700}},
              {{0, 0, 1},
               {1, 14, 1},
               {2, 15, 1},
               {3, 16, 1},
               {4, 254, 1},
               {5, 255, 1},
               {6, 256, 1},
               {7, 699, 1}});
}

TEST_F(AttentionTest, APromptAgreesWithTheReference) {
  ExpectRight({.num_heads = 3, .num_kv_heads = 1, .contexts = {97}}, {{0, 0, 97}});
}

TEST_F(AttentionTest, AChunkOfAPromptBehindCachedKeysAgreesWithTheReference) {
  ExpectRight({.num_heads = 3, .num_kv_heads = 1, .contexts = {300}}, {{0, 230, 70}});
}

// One row for each token, so that 97 tokens are a prefill.
TEST_F(AttentionTest, APromptIsTheSameBitsWholeInChunksAndTokenByToken) {
  const AttentionCase problem({.num_heads = 1, .num_kv_heads = 1, .contexts = {270}});
  const std::vector<uint16_t> whole = problem.Run({{0, 0, 270}});
  EXPECT_EQ(problem.RunInSteps(0, {100, 5, 66, 99}), whole);
  for (const int position : {0, 1, 15, 16, 63, 64, 200, 255, 256, 257, 269}) {
    const auto row = whole.begin() + position * 64;
    EXPECT_EQ(problem.Run({{0, position, 1}}), std::vector<uint16_t>(row, row + 64)) << position;
  }
}

}  // namespace
}  // namespace trireme::cuda
