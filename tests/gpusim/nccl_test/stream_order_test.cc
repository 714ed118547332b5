// What a collective operation orders: the streams of its ranks.
#include <gmock/gmock.h>

#include "tests/gpusim/gpusim.h"
#include "tests/gpusim/nccl_test/ranks.h"

namespace trireme::gpusim {
namespace {

constexpr size_t kN = 100;

// Rank 0 writes into a buffer of its own, rank 1 copies from it, in streams of theirs.
std::vector<Finding> WriteThenReadElsewhere(bool with_collective) {
  Ranks ranks(2);
  auto sums = ranks.Buffers<float>({std::vector<float>(kN, 1.0f), std::vector<float>(kN, 2.0f)});
  auto own = ranks.Buffers<float>({std::vector<float>(kN, 1.0f), std::vector<float>(kN, 2.0f)});
  cudaSetDevice(0);
  EXPECT_EQ(cudaMemsetAsync(own[0].data(), 0, kN * sizeof(float), ranks.streams[0]), cudaSuccess);
  if (with_collective) {
    EXPECT_EQ(ranks.Together([&](size_t rank) {
      ncclAllReduce(sums[rank].data(), sums[rank].data(), kN, ncclFloat32, ncclSum,
                    ranks.comms[rank], ranks.streams[rank]);
    }),
              ncclSuccess);
  }
  cudaSetDevice(1);
  EXPECT_EQ(
      cudaMemcpyPeerAsync(own[1].data(), 1, own[0].data(), 0, kN * sizeof(float), ranks.streams[1]),
      cudaSuccess);
  ranks.Wait();
  return TakeFindings();
}

TEST(NcclStreamOrderTest, ACollectiveOrdersItsRanks) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SetSeed(seed);
    EXPECT_THAT(WriteThenReadElsewhere(true), testing::IsEmpty());
  }
}

TEST(NcclStreamOrderTest, RanksWithoutACollectiveAreNotOrdered) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SetSeed(seed);
    EXPECT_THAT(
        WriteThenReadElsewhere(false),
        testing::Contains(testing::Field(&Finding::kind, FindingKind::kMissingStreamOrder)));
  }
}

// An operation of one stream uses what another stream still writes.
TEST(NcclStreamOrderTest, ACollectiveHasToWaitForItsInput) {
  Ranks ranks(2);
  auto sums = ranks.Buffers<float>({std::vector<float>(kN, 1.0f), std::vector<float>(kN, 2.0f)});
  cudaSetDevice(0);
  cudaStream_t other = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaMemsetAsync(sums[0].data(), 0, kN * sizeof(float), other), cudaSuccess);
  EXPECT_EQ(ranks.Together([&](size_t rank) {
    ncclAllReduce(sums[rank].data(), sums[rank].data(), kN, ncclFloat32, ncclSum, ranks.comms[rank],
                  ranks.streams[rank]);
  }),
            ncclSuccess);
  ranks.Wait();
  ASSERT_EQ(cudaStreamSynchronize(other), cudaSuccess);
  EXPECT_THAT(TakeFindings(),
              testing::Contains(testing::Field(&Finding::kind, FindingKind::kMissingStreamOrder)));
  EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
}

}  // namespace
}  // namespace trireme::gpusim
