// What goes wrong with collectives, on demand or by mistake.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "tests/gpusim/gpusim.h"
#include "tests/gpusim/nccl_test/ranks.h"

namespace trireme::gpusim {
namespace {

// Polls so often that whatever can go on has gone on.
constexpr int kPolls = 300;

class NcclFaultTest : public testing::Test {
 protected:
  ~NcclFaultTest() override { ClearFaults(); }
  void TearDown() override { EXPECT_THAT(TakeFindings(), testing::IsEmpty()); }

  // Enqueues an all-reduce of both ranks.
  void Reduce(Ranks* ranks, std::vector<Buffer<float>>* values) {
    ASSERT_EQ(ranks->Together([&](size_t rank) {
      ncclAllReduce((*values)[rank].data(), (*values)[rank].data(), 1, ncclFloat32, ncclSum,
                    ranks->comms[rank], ranks->streams[rank]);
    }),
              ncclSuccess);
  }
  // How many polls a stream says that it is not done.
  int PollsUntilDone(cudaStream_t stream) {
    int polls = 0;
    while (polls < kPolls && cudaStreamQuery(stream) == cudaErrorNotReady) ++polls;
    return polls;
  }
  // Ends what hangs.
  void Abort(Ranks* ranks) {
    for (ncclComm_t& comm : ranks->comms) {
      EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
      comm = nullptr;
    }
    ranks->Wait();
  }
};

ncclResult_t AsyncError(ncclComm_t comm) {
  ncclResult_t error = ncclInternalError;
  EXPECT_EQ(ncclCommGetAsyncError(comm, &error), ncclSuccess);
  return error;
}

TEST_F(NcclFaultTest, AHungRankHangsAllUntilTheyAreAborted) {
  Ranks ranks(2);
  auto values = ranks.Buffers<float>({{1}, {2}});
  InjectFault({.kind = FaultKind::kHungRank, .device = 1, .call = 2});
  Reduce(&ranks, &values);
  ranks.Wait();
  Reduce(&ranks, &values);
  for (const cudaStream_t stream : ranks.streams) EXPECT_EQ(PollsUntilDone(stream), kPolls);
  for (const ncclComm_t comm : ranks.comms) EXPECT_EQ(AsyncError(comm), ncclSuccess);
  Abort(&ranks);
  for (auto& buffer : values) EXPECT_THAT(buffer.Values(), testing::ElementsAre(3.0f));
}

TEST_F(NcclFaultTest, ASlowRankIsWaitedFor) {
  Ranks ranks(2);
  auto values = ranks.Buffers<float>({{1}, {2}});
  InjectFault({.kind = FaultKind::kSlowRank, .device = 0, .call = 1});
  Reduce(&ranks, &values);
  const int polls = PollsUntilDone(ranks.streams[1]);
  EXPECT_GT(polls, 20);
  EXPECT_LT(polls, kPolls);
  ranks.Wait();
  for (auto& buffer : values) EXPECT_THAT(buffer.Values(), testing::ElementsAre(3.0f));
}

TEST_F(NcclFaultTest, ACallThatFailsOnDemandDoesNothingAndLaterOnesWork) {
  Ranks ranks(2);
  auto values = ranks.Buffers<float>({{1}, {2}});
  InjectFault({.kind = FaultKind::kNcclCall, .device = 1, .call = 1});
  EXPECT_EQ(ncclAllReduce(values[1].data(), values[1].data(), 1, ncclFloat32, ncclSum,
                          ranks.comms[1], ranks.streams[1]),
            ncclSystemError);
  Reduce(&ranks, &values);
  ranks.Wait();
  for (auto& buffer : values) EXPECT_THAT(buffer.Values(), testing::ElementsAre(3.0f));
}

TEST_F(NcclFaultTest, AGroupFailsOnDemandAtEitherEnd) {
  InjectFault({.kind = FaultKind::kNcclCall, .call = 1});
  EXPECT_EQ(ncclGroupStart(), ncclSystemError);
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);  // none is open
  InjectFault({.kind = FaultKind::kNcclCall, .call = 2});
  EXPECT_EQ(ncclGroupStart(), ncclSuccess);
  EXPECT_EQ(ncclGroupEnd(), ncclSystemError);
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);  // it is closed all the same
}

TEST_F(NcclFaultTest, RanksThatCallDifferentOperationsAreTold) {
  Ranks ranks(2);
  auto values = ranks.Buffers<float>({{1, 2}, {3, 4}});
  ranks.Together([&](size_t rank) {
    ncclAllReduce(values[rank].data(), values[rank].data(), 1 + rank, ncclFloat32, ncclSum,
                  ranks.comms[rank], ranks.streams[rank]);
  });
  EXPECT_EQ(PollsUntilDone(ranks.streams[0]), kPolls);
  EXPECT_EQ(AsyncError(ranks.comms[0]), ncclInvalidUsage);
  EXPECT_THAT(ncclGetLastError(ranks.comms[0]), testing::HasSubstr("another count"));
  EXPECT_EQ(ncclAllReduce(values[0].data(), values[0].data(), 1, ncclFloat32, ncclSum,
                          ranks.comms[0], ranks.streams[0]),
            ncclInvalidUsage);
  Abort(&ranks);
}

TEST_F(NcclFaultTest, AProcessThatEndsIsARemoteError) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  ncclComm_t comm;
  if (child == 0) _exit(ncclCommInitRank(&comm, 2, id, 1) == ncclSuccess ? 0 : 1);
  ASSERT_EQ(ncclCommInitRank(&comm, 2, id, 0), ncclSuccess);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  Buffer<float> buffer(std::vector<float>{1});
  ASSERT_EQ(ncclAllReduce(buffer.data(), buffer.data(), 1, ncclFloat32, ncclSum, comm, nullptr),
            ncclSuccess);
  EXPECT_EQ(PollsUntilDone(nullptr), kPolls);
  EXPECT_EQ(AsyncError(comm), ncclRemoteError);
  EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
}

// As a watchdog does it: one thread waits for the stream, another gives up.
TEST_F(NcclFaultTest, AnAbortFreesAThreadThatWaits) {
  Ranks ranks(2);
  auto values = ranks.Buffers<float>({{1}, {2}});
  ASSERT_EQ(ncclAllReduce(values[0].data(), values[0].data(), 1, ncclFloat32, ncclSum,
                          ranks.comms[0], ranks.streams[0]),
            ncclSuccess);
  std::thread waits([&] { EXPECT_EQ(cudaStreamSynchronize(ranks.streams[0]), cudaSuccess); });
  EXPECT_EQ(ncclCommAbort(ranks.comms[0]), ncclSuccess);
  ranks.comms[0] = nullptr;
  waits.join();
}

TEST_F(NcclFaultTest, WhatWasNeverWrittenIsFoundWhenItIsSent) {
  Ranks ranks(2);
  std::vector<Buffer<float>> buffers;
  for (int device = 0; device < 2; ++device) {
    cudaSetDevice(device);
    buffers.emplace_back(size_t{4});
  }
  Reduce(&ranks, &buffers);
  ranks.Wait();
  const auto findings = TakeFindings();
  ASSERT_FALSE(findings.empty());
  EXPECT_EQ(findings[0].kind, FindingKind::kUninitializedGlobal);
  EXPECT_EQ(findings[0].kernel, "ncclAllReduce");
}

TEST_F(NcclFaultTest, ArgumentsAreChecked) {
  Ranks ranks(2);
  auto values = ranks.Buffers<float>({{1}, {2}});
  float on_host = 0;
  const auto reduce = [&](void* buffer, size_t count, ncclDataType_t type, ncclRedOp_t op,
                          cudaStream_t stream) {
    return ncclAllReduce(buffer, buffer, count, type, op, ranks.comms[0], stream);
  };
  float* const good = values[0].data();
  const cudaStream_t stream = ranks.streams[0];
  EXPECT_EQ(reduce(&on_host, 1, ncclFloat32, ncclSum, stream), ncclInvalidArgument);
  EXPECT_EQ(reduce(values[1].data(), 1, ncclFloat32, ncclSum, stream), ncclInvalidArgument);
  EXPECT_EQ(reduce(good, 2, ncclFloat32, ncclSum, stream), ncclInvalidArgument);
  EXPECT_EQ(reduce(good, 1, static_cast<ncclDataType_t>(77), ncclSum, stream), ncclInvalidArgument);
  EXPECT_EQ(reduce(good, 1, ncclFloat32, static_cast<ncclRedOp_t>(77), stream),
            ncclInvalidArgument);
  EXPECT_EQ(reduce(good, 1, ncclFloat32, ncclSum, ranks.streams[1]), ncclInvalidArgument);
  EXPECT_EQ(ncclSend(good, 1, ncclFloat32, 2, ranks.comms[0], stream), ncclInvalidArgument);
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
}

TEST_F(NcclFaultTest, CommunicatorsThatCannotBeAreRefused) {
  ncclUniqueId id{};
  ncclComm_t comm;
  EXPECT_EQ(ncclCommInitRank(&comm, 2, id, 0), ncclInvalidUsage);  // not one of ncclGetUniqueId
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  EXPECT_EQ(ncclCommInitRank(&comm, 2, id, 2), ncclInvalidArgument);
  ASSERT_EQ(ncclCommInitRank(&comm, 1, id, 0), ncclSuccess);
  ncclComm_t again;
  EXPECT_EQ(ncclCommInitRank(&again, 1, id, 0), ncclInvalidUsage);  // used up
  EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess);
  const int same_device[] = {1, 1};
  ncclComm_t both[2];
  EXPECT_EQ(ncclCommInitAll(both, 2, same_device), ncclInvalidUsage);
}

}  // namespace
}  // namespace trireme::gpusim
