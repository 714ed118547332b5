#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <numeric>
#include <thread>
#include <vector>

#include "tests/gpusim/gpusim.h"
#include "tests/gpusim/nccl_test/ranks.h"

namespace trireme::gpusim {
namespace {

using testing::Each;
using testing::ElementsAre;

class NcclTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_THAT(TakeFindings(), testing::IsEmpty()); }
};

std::vector<float> Ramp(size_t n, float step) {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = step * static_cast<float>(i);
  return values;
}

TEST_F(NcclTest, TwoDevicesOfOneProcessReduce) {
  Ranks ranks(2);
  constexpr size_t kN = 100'000;  // several pieces
  auto in = ranks.Buffers<float>({Ramp(kN, 1), Ramp(kN, 2)});
  auto out = ranks.Buffers<float>({Ramp(kN, 0), Ramp(kN, 0)});
  ASSERT_EQ(ranks.Together([&](size_t rank) {
    ncclAllReduce(in[rank].data(), out[rank].data(), kN, ncclFloat32, ncclSum, ranks.comms[rank],
                  ranks.streams[rank]);
  }),
            ncclSuccess);
  ranks.Wait();
  EXPECT_EQ(out[0].Values(), Ramp(kN, 3));
  EXPECT_EQ(out[1].Values(), Ramp(kN, 3));
}

// A rank's part of an all-reduce: what it is left with. Its input is rank + 1 everywhere.
std::vector<float> ReduceAsRank(const ncclUniqueId& id, int num_ranks, int rank, int device) {
  cudaSetDevice(device);
  ncclComm_t comm;
  EXPECT_EQ(ncclCommInitRank(&comm, num_ranks, id, rank), ncclSuccess);
  Buffer<float> buffer(std::vector<float>(50'000, static_cast<float>(rank + 1)));
  EXPECT_EQ(
      ncclAllReduce(buffer.data(), buffer.data(), 50'000, ncclFloat32, ncclSum, comm, nullptr),
      ncclSuccess);
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
  EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess);
  return buffer.Values();
}

TEST_F(NcclTest, AThreadForEachDeviceReduces) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 4; ++rank) {
    threads.emplace_back(
        [&, rank] { EXPECT_THAT(ReduceAsRank(id, 4, rank, rank), Each(1.0f + 2 + 3 + 4)); });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(NcclTest, TwoProcessesReduce) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto values = ReduceAsRank(id, 2, 1, 0);
    _exit(!HasFailure() && values == std::vector<float>(50'000, 3) ? 0 : 1);
  }
  EXPECT_THAT(ReduceAsRank(id, 2, 0, 0), Each(3.0f));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(NcclTest, EveryCollectiveMovesWhatItsNameSays) {
  Ranks ranks(3);
  auto in = ranks.Buffers<int32_t>({{1, 2, 3}, {10, 20, 30}, {100, 200, 300}});
  auto out = ranks.Buffers<int32_t>(
      {std::vector<int32_t>(9), std::vector<int32_t>(9), std::vector<int32_t>(9)});
  const auto each = [&](auto&& call) {
    EXPECT_EQ(ranks.Together([&](size_t rank) {
      EXPECT_EQ(call(in[rank].data(), out[rank].data(), ranks.comms[rank], ranks.streams[rank]),
                ncclSuccess);
    }),
              ncclSuccess);
    ranks.Wait();
  };
  each([](auto* from, auto* to, auto comm, auto stream) {
    return ncclAllGather(from, to, 3, ncclInt32, comm, stream);
  });
  for (auto& buffer : out) {
    EXPECT_THAT(buffer.Values(), ElementsAre(1, 2, 3, 10, 20, 30, 100, 200, 300));
  }
  each([](auto* from, auto* to, auto comm, auto stream) {
    return ncclReduceScatter(from, to, 1, ncclInt32, ncclMax, comm, stream);
  });
  EXPECT_EQ(out[0].Values()[0], 100);
  EXPECT_EQ(out[1].Values()[0], 200);
  EXPECT_EQ(out[2].Values()[0], 300);
  each([](auto* from, auto* to, auto comm, auto stream) {
    return ncclBroadcast(from, to, 3, ncclInt32, 1, comm, stream);
  });
  for (auto& buffer : out) EXPECT_EQ(buffer.Values()[2], 30);
  each([](auto* from, auto* to, auto comm, auto stream) {
    return ncclReduce(from, to, 3, ncclInt32, ncclProd, 2, comm, stream);
  });
  EXPECT_EQ(out[0].Values()[2], 30);  // only the root's is written
  EXPECT_EQ(out[2].Values()[2], 3 * 30 * 300);
}

TEST_F(NcclTest, AGroupOfSendsAndReceivesIsARing) {
  Ranks ranks(3);
  auto in = ranks.Buffers<int64_t>({{7}, {8}, {9}});
  auto out = ranks.Buffers<int64_t>({{0}, {0}, {0}});
  ASSERT_EQ(ranks.Together([&](size_t rank) {
    const int next = (static_cast<int>(rank) + 1) % 3, before = (static_cast<int>(rank) + 2) % 3;
    ncclSend(in[rank].data(), 1, ncclInt64, next, ranks.comms[rank], ranks.streams[rank]);
    ncclRecv(out[rank].data(), 1, ncclInt64, before, ranks.comms[rank], ranks.streams[rank]);
  }),
            ncclSuccess);
  ranks.Wait();
  EXPECT_THAT(out[0].Values(), ElementsAre(9));
  EXPECT_THAT(out[1].Values(), ElementsAre(7));
  EXPECT_THAT(out[2].Values(), ElementsAre(8));
}

TEST_F(NcclTest, HalfPrecisionIsRoundedAfterEachRank) {
  Ranks ranks(3);
  constexpr uint16_t kOne = 0x3f80, kTiny = 0x3b80;  // bf16: 1 and 2^-8, half of what 1 can show
  auto values = ranks.Buffers<uint16_t>({{kOne}, {kTiny}, {kTiny}});
  const auto reduce = [&](ncclRedOp_t op) {
    ASSERT_EQ(ranks.Together([&](size_t rank) {
      ncclAllReduce(values[rank].data(), values[rank].data(), 1, ncclBfloat16, op,
                    ranks.comms[rank], ranks.streams[rank]);
    }),
              ncclSuccess);
    ranks.Wait();
  };
  reduce(ncclSum);
  for (auto& buffer : values) EXPECT_THAT(buffer.Values(), ElementsAre(kOne));
  reduce(ncclAvg);
  for (auto& buffer : values) EXPECT_THAT(buffer.Values(), ElementsAre(kOne));
}

TEST_F(NcclTest, AGraphHoldsACollective) {
  Ranks ranks(2);
  auto values = ranks.Buffers<float>({{1}, {1}});
  std::vector<cudaGraphExec_t> graphs(2);
  for (size_t rank = 0; rank < 2; ++rank) {
    cudaSetDevice(static_cast<int>(rank));
    const cudaStream_t stream = ranks.streams[rank];
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
    ASSERT_EQ(ncclAllReduce(values[rank].data(), values[rank].data(), 1, ncclFloat32, ncclSum,
                            ranks.comms[rank], stream),
              ncclSuccess);
    cudaGraph_t graph;
    ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&graphs[rank], graph, 0), cudaSuccess);
    cudaGraphDestroy(graph);
  }
  for (int launch = 0; launch < 5; ++launch) {
    for (size_t rank = 0; rank < 2; ++rank) {
      cudaSetDevice(static_cast<int>(rank));
      ASSERT_EQ(cudaGraphLaunch(graphs[rank], ranks.streams[rank]), cudaSuccess);
    }
  }
  ranks.Wait();
  for (auto& buffer : values) EXPECT_THAT(buffer.Values(), ElementsAre(32.0f));
  for (const cudaGraphExec_t graph : graphs) cudaGraphExecDestroy(graph);
}

// NCCL runs what a communicator is asked for in the order of the calls.
TEST_F(NcclTest, OneCommunicatorOnTwoStreamsKeepsTheOrderOfTheCalls) {
  Ranks ranks(2);
  auto values = ranks.Buffers<float>({{1}, {1}});
  auto others = ranks.Buffers<double>({{2}, {2}});
  for (size_t rank = 0; rank < 2; ++rank) {
    cudaSetDevice(static_cast<int>(rank));
    cudaStream_t second;
    ASSERT_EQ(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking), cudaSuccess);
    ncclAllReduce(values[rank].data(), values[rank].data(), 1, ncclFloat32, ncclSum,
                  ranks.comms[rank], rank == 0 ? second : ranks.streams[rank]);
    ncclAllReduce(others[rank].data(), others[rank].data(), 1, ncclFloat64, ncclSum,
                  ranks.comms[rank], rank == 0 ? ranks.streams[rank] : second);
  }
  for (int device = 0; device < 2; ++device) {
    cudaSetDevice(device);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  for (auto& buffer : values) EXPECT_THAT(buffer.Values(), ElementsAre(2.0f));
  for (auto& buffer : others) EXPECT_THAT(buffer.Values(), ElementsAre(4.0));
}

}  // namespace
}  // namespace trireme::gpusim
