// Operations of different streams that touch the same memory: what has to be ordered by events or
// the host, and what is.
#include <array>

#include "tests/gpusim/kernels/stream_order_case.h"

namespace trireme::gpusim {
namespace {

class StreamOrderTest : public StreamOrderCase {};

TEST_F(StreamOrderTest, AReaderHasToWaitForTheWriter) {
  ExpectEventIsNeeded([&] { LaunchFill(a_, kN, 1, first_); },
                      [&] { LaunchCopyWords(a_, b_, kN, second_); });
}

TEST_F(StreamOrderTest, AWriterHasToWaitForTheReader) {
  ExpectEventIsNeeded([&] { LaunchCopyWords(a_, b_, kN, first_); },
                      [&] { LaunchFill(a_, kN, 1, second_); });
}

TEST_F(StreamOrderTest, AWriterHasToWaitForTheOtherWriter) {
  ExpectEventIsNeeded([&] { LaunchFill(a_, kN, 1, first_); },
                      [&] { LaunchFill(a_, kN, 2, second_); });
}

TEST_F(StreamOrderTest, CopiesAndSetsHaveToWaitAsKernelsDo) {
  const auto fill = [&] { LaunchFill(a_, kN, 1, first_); };
  const auto copy = [&](void* to, const void* from, cudaStream_t stream) {
    cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDefault, stream);
  };
  ExpectEventIsNeeded(fill, [&] { copy(locked_, a_, second_); });
  ExpectEventIsNeeded(fill, [&] { cudaMemsetAsync(a_, 0, kBytes, second_); });
  ExpectEventIsNeeded([&] { copy(a_, b_, first_); }, [&] { LaunchCopyWords(a_, c_, kN, second_); });
  ExpectEventIsNeeded([&] { copy(b_, a_, first_); }, [&] { copy(a_, c_, second_); });
}

// A staging buffer that is filled again while its last contents are still being uploaded.
TEST_F(StreamOrderTest, PageLockedMemoryIsChecked) {
  ExpectEventIsNeeded([&] { cudaMemcpyAsync(a_, locked_, kBytes, cudaMemcpyDefault, first_); },
                      [&] { cudaMemcpyAsync(locked_, b_, kBytes, cudaMemcpyDefault, second_); });
}

TEST_F(StreamOrderTest, FreeingHasToWaitForTheLastUse) {
  for (const bool waits : {true, false}) {
    Reset(1);
    uint32_t* fresh = nullptr;
    ASSERT_EQ(cudaMalloc(&fresh, kBytes), cudaSuccess);
    LaunchFill(fresh, kN, 1, first_);
    if (waits) SecondWaits();
    ASSERT_EQ(cudaFreeAsync(fresh, second_), cudaSuccess);
    // Which comes first decides whether it is out of bounds, too.
    cudaDeviceSynchronize();
    EXPECT_EQ(TakeFindings().empty(), waits);
    cudaDeviceReset();
  }
}

// Each of several readers counts, not the last one only.
TEST_F(StreamOrderTest, AWriterThatWaitsForOneOfTwoReadersIsFound) {
  ExpectFinding([&] {
    LaunchCopyWords(a_, b_, kN, first_);
    LaunchCopyWords(a_, c_, kN, second_);
    LaunchFill(a_, kN, 1, second_);
  });
}

TEST_F(StreamOrderTest, WhatAnEventOrdersIsWhatCameBeforeIt) {
  ExpectFinding([&] {
    ASSERT_EQ(cudaEventRecord(event_, first_), cudaSuccess);
    LaunchFill(a_, kN, 1, first_);
    ASSERT_EQ(cudaStreamWaitEvent(second_, event_, 0), cudaSuccess);
    LaunchCopyWords(a_, b_, kN, second_);
  });
}

TEST_F(StreamOrderTest, TheFindingNamesBothAndThePlace) {
  LaunchFill(a_, kN, 1, first_);
  ASSERT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
  LaunchCopyWords(a_ + 10, b_, 20, first_);
  cudaMemsetAsync(a_ + 25, 0, 100, second_);
  const std::vector<Finding> findings = AfterAll();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_THAT(findings[0].what,
              testing::AllOf(testing::HasSubstr("CopyWords"), testing::HasSubstr("set"),
                             testing::HasSubstr("byte 100 of an allocation")));
}

TEST_F(StreamOrderTest, TheHostOrdersWhatItHasWaitedFor) {
  const std::array<cudaError_t (*)(cudaStream_t, cudaEvent_t), 4> waits = {
      [](cudaStream_t stream, cudaEvent_t) { return cudaStreamSynchronize(stream); },
      [](cudaStream_t, cudaEvent_t event) { return cudaEventSynchronize(event); },
      [](cudaStream_t, cudaEvent_t) { return cudaDeviceSynchronize(); },
      [](cudaStream_t stream, cudaEvent_t) {
        while (cudaStreamQuery(stream) == cudaErrorNotReady) {
        }
        return cudaSuccess;
      }};
  for (const auto& wait : waits) {
    ExpectNone([&] {
      LaunchFill(a_, kN, 1, first_);
      ASSERT_EQ(cudaEventRecord(event_, first_), cudaSuccess);
      ASSERT_EQ(wait(first_, event_), cudaSuccess);
      LaunchCopyWords(a_, b_, kN, second_);
    });
  }
}

TEST_F(StreamOrderTest, TheDefaultStreamOrdersBlockingStreamsOnly) {
  cudaStream_t blocking = nullptr;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  ExpectNone([&] {
    LaunchFill(a_, kN, 1, blocking);
    LaunchCopyWords(a_, b_, kN, nullptr);
    LaunchFill(b_, kN, 1, blocking);
  });
  ExpectFinding([&] {
    LaunchFill(a_, kN, 1, first_);
    LaunchCopyWords(a_, b_, kN, nullptr);
  });
  // A synchronous copy does not wait for it, either.
  std::vector<uint32_t> out(kN);
  ExpectFinding([&] {
    LaunchFill(a_, kN, 1, first_);
    cudaMemcpy(out.data(), a_, kBytes, cudaMemcpyDeviceToHost);
  });
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

TEST_F(StreamOrderTest, NeighboursDoNotDisturbEachOther) {
  ExpectNone([&] {
    LaunchFill(a_, 333, 1, first_);
    LaunchFill(a_ + 333, kN - 333, 2, second_);
    LaunchCopyWords(a_, b_, 333, first_);
    LaunchCopyWords(a_ + 333, b_ + 333, kN - 333, second_);
  });
  auto* const bytes = reinterpret_cast<uint8_t*>(a_);
  ExpectNone([&] {
    LaunchFillBytes(bytes, 1001, 1, first_);
    LaunchFillBytes(bytes + 1001, 998, 2, second_);
    cudaMemsetAsync(bytes + 1999, 0, 3, first_);
  });
  ExpectFinding([&] {
    LaunchFillBytes(bytes, 1001, 1, first_);
    LaunchFillBytes(bytes + 990, 998, 2, second_);
  });
}

TEST_F(StreamOrderTest, ReadersNeedNoOrder) {
  ExpectNone([&] {
    LaunchCopyWords(a_, b_, kN, first_);
    LaunchCopyWords(a_, c_, kN, second_);
    cudaMemcpyAsync(locked_, a_, kBytes, cudaMemcpyDeviceToHost, second_);
  });
}

TEST_F(StreamOrderTest, MemoryThatIsAllocatedAgainHasNoHistory) {
  ExpectNone([&] {
    for (const cudaStream_t stream : {first_, second_, first_}) {
      uint32_t* fresh = nullptr;
      ASSERT_EQ(cudaMallocAsync(&fresh, kBytes, stream), cudaSuccess);
      LaunchFill(fresh, kN, 1, stream);
      ASSERT_EQ(cudaFreeAsync(fresh, stream), cudaSuccess);
    }
  });
}

TEST_F(StreamOrderTest, KernelsMayOrderThemselvesByFlags) {
  // c_[0] is the flag. What follows in the reader's stream knows what the reader has learned.
  ExpectNone([&] {
    LaunchFill(a_, kN, 1, first_);
    LaunchPublish(b_, kN, 2, c_, first_);
    LaunchAwaitAndCopy(c_, b_, c_ + 500, 100, second_);
    LaunchFill(a_, kN, 3, second_);
  });
}

TEST_F(StreamOrderTest, WhatFollowsTheFlagIsNotOrderedByIt) {
  ExpectFinding([&] {
    LaunchPublish(b_, kN, 2, c_, first_);
    LaunchAwaitAndCopy(c_, b_, c_ + 500, 100, second_);
    ASSERT_EQ(cudaEventRecord(event_, second_), cudaSuccess);
    ASSERT_EQ(cudaEventSynchronize(event_), cudaSuccess);
    LaunchFill(a_, kN, 1, first_);
    LaunchFill(a_, kN, 3, second_);
  });
}

TEST_F(StreamOrderTest, AHostFunctionTellsTheHost) {
  ExpectNone([&] {
    LaunchFill(a_, kN, 1, first_);
    bool done = false;
    cudaLaunchHostFunc(
        first_, [](void* flag) { *static_cast<bool*>(flag) = true; }, &done);
    while (!done) cudaStreamQuery(first_);
    LaunchCopyWords(a_, b_, kN, second_);
  });
}

// The branches of a graph.
TEST_F(StreamOrderTest, NodesOfAGraphAreOrderedByItsEdges) {
  for (const bool waits : {true, false}) {
    Reset(1);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(first_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    LaunchFill(b_, kN, 1, first_);
    if (!waits) SecondWaits();
    LaunchFill(a_, kN, 1, first_);
    if (waits) SecondWaits();
    LaunchCopyWords(a_, c_, kN, second_);
    ASSERT_EQ(cudaEventRecord(event_, second_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(first_, event_, 0), cudaSuccess);
    ASSERT_EQ(cudaStreamEndCapture(first_, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    const auto replay = [&] {
      ASSERT_EQ(cudaGraphLaunch(exec, first_), cudaSuccess);
      ASSERT_EQ(cudaGraphLaunch(exec, second_), cudaSuccess);  // waits for the other launch
      LaunchCopyWords(b_, c_, kN, second_);
    };
    if (waits) {
      ExpectNone(replay);
    } else {
      ExpectFinding(replay);
    }
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
  }
}

TEST_F(StreamOrderTest, BranchesOfAGraphThatMeetAreInOrder) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(first_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  LaunchFill(c_, kN, 1, first_);
  SecondWaits();
  LaunchFill(a_, kN, 1, first_);
  LaunchCopyWords(c_, b_, kN, second_);
  ASSERT_EQ(cudaEventRecord(event_, second_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(first_, event_, 0), cudaSuccess);
  LaunchCopyWords(a_, c_, kN, first_);
  LaunchCopyWords(b_, c_, kN, first_);
  ASSERT_EQ(cudaStreamEndCapture(first_, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  ExpectNone([&] {
    ASSERT_EQ(cudaGraphLaunch(exec, first_), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(exec, first_), cudaSuccess);
  });
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
}

TEST_F(StreamOrderTest, AGraphIsOrderedByItsStream) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(first_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  LaunchFill(a_, kN, 1, first_);
  LaunchCopyWords(a_, b_, kN, first_);
  ASSERT_EQ(cudaStreamEndCapture(first_, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  ExpectEventIsNeeded([&] { cudaGraphLaunch(exec, first_); },
                      [&] { LaunchCopyWords(b_, c_, kN, second_); });
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
}

// The first stream's kernels on this device write into the second device's memory.
class PeerOrderTest : public StreamOrderCase {
 protected:
  PeerOrderTest() {
    cudaDeviceEnablePeerAccess(1, 0);
    cudaSetDevice(1);
    cudaMalloc(&theirs_, kBytes);
    cudaMemset(theirs_, 0, kBytes);
    cudaStreamCreateWithFlags(&their_stream_, cudaStreamNonBlocking);
    cudaDeviceSynchronize();
    cudaSetDevice(0);
  }
  ~PeerOrderTest() override {
    cudaDeviceSynchronize();
    cudaSetDevice(1);
    cudaStreamDestroy(their_stream_);
    cudaFree(theirs_);
    cudaSetDevice(0);
    cudaDeviceDisablePeerAccess(1);
  }
  void OnTheirs(uint32_t* to) {
    cudaSetDevice(1);
    LaunchCopyWords(theirs_, to, 100, their_stream_);
    cudaSetDevice(0);
  }
  void TheyWait() {
    ASSERT_EQ(cudaEventRecord(event_, first_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(their_stream_, event_, 0), cudaSuccess);
  }
  void Finish() {
    cudaDeviceSynchronize();
    cudaStreamSynchronize(their_stream_);
  }
  uint32_t* theirs_ = nullptr;
  cudaStream_t their_stream_ = nullptr;
};

TEST_F(PeerOrderTest, DevicesHaveToWaitForEachOther) {
  ExpectFinding([&] {
    LaunchFill(theirs_, 100, 1, first_);
    OnTheirs(theirs_ + 500);
    Finish();
  });
  ExpectNone([&] {
    LaunchFill(theirs_, 100, 1, first_);
    TheyWait();
    OnTheirs(theirs_ + 500);
    Finish();
  });
}

TEST_F(PeerOrderTest, DevicesMayOrderThemselvesByFlags) {
  ExpectNone([&] {
    cudaSetDevice(1);
    cudaMemset(theirs_, 0, kBytes);
    cudaDeviceSynchronize();
    LaunchAwaitAndCopy(theirs_ + 900, theirs_, theirs_ + 500, 100, their_stream_);
    cudaSetDevice(0);
    LaunchPublish(theirs_, 100, 7, theirs_ + 900, first_);
    Finish();
  });
}

}  // namespace
}  // namespace trireme::gpusim
