// Host code as an engine has it, and what is left out of it: each gap must be found, whatever the
// schedule.
#include "tests/gpusim/kernels/stream_order_case.h"

namespace trireme::gpusim {
namespace {

enum class Gap : uint8_t {
  kNone,
  kUploadIsNotAwaited,     // the kernel's stream does not wait for the upload
  kBufferIsReusedAtOnce,   // the next upload does not wait for the kernel that reads the buffer
  kStagingIsReusedAtOnce,  // a result lands in page-locked memory that is still being uploaded
  kResultIsTakenAtOnce,    // a synchronous copy of what another stream still writes
};

class StreamOrderMutantTest : public StreamOrderCase {
 protected:
  // Batches go up in one stream (first_) and are worked on in the other, as in double buffering.
  void RunSteps(Gap gap) {
    cudaEvent_t uploaded, used;
    for (cudaEvent_t* event : {&uploaded, &used}) {
      ASSERT_EQ(cudaEventCreateWithFlags(event, cudaEventDisableTiming), cudaSuccess);
    }
    for (int step = 0; step < 3; ++step) {
      if (step > 0 && gap != Gap::kBufferIsReusedAtOnce) {
        ASSERT_EQ(cudaStreamWaitEvent(first_, used, 0), cudaSuccess);
      }
      ASSERT_EQ(cudaMemcpyAsync(a_, locked_, kBytes, cudaMemcpyDefault, first_), cudaSuccess);
      ASSERT_EQ(cudaEventRecord(uploaded, first_), cudaSuccess);
      if (gap != Gap::kUploadIsNotAwaited) {
        ASSERT_EQ(cudaStreamWaitEvent(second_, uploaded, 0), cudaSuccess);
      }
      ASSERT_EQ(LaunchCopyWords(a_, b_, kN, second_), cudaSuccess);
      ASSERT_EQ(cudaEventRecord(used, second_), cudaSuccess);
      if (gap == Gap::kResultIsTakenAtOnce) {
        ASSERT_EQ(cudaMemcpy(result_.data(), b_, kBytes, cudaMemcpyDefault), cudaSuccess);
      }
    }
    const cudaStream_t results = gap == Gap::kStagingIsReusedAtOnce ? third_ : second_;
    if (gap == Gap::kStagingIsReusedAtOnce) {
      ASSERT_EQ(cudaMemcpyAsync(locked_, c_, kBytes, cudaMemcpyDefault, results), cudaSuccess);
    } else {
      ASSERT_EQ(cudaMemcpyAsync(locked_, b_, kBytes, cudaMemcpyDefault, results), cudaSuccess);
    }
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    for (cudaEvent_t event : {uploaded, used}) cudaEventDestroy(event);
  }
  StreamOrderMutantTest() : result_(kN) {
    cudaStreamCreateWithFlags(&third_, cudaStreamNonBlocking);
  }
  ~StreamOrderMutantTest() override { cudaStreamDestroy(third_); }

  std::vector<uint32_t> result_;
  cudaStream_t third_ = nullptr;
};

TEST_F(StreamOrderMutantTest, StepsThatWaitAreInOrder) {
  ExpectNone([&] { RunSteps(Gap::kNone); });
}

TEST_F(StreamOrderMutantTest, AnUploadThatIsNotAwaitedIsFound) {
  ExpectFinding([&] { RunSteps(Gap::kUploadIsNotAwaited); });
}

TEST_F(StreamOrderMutantTest, ABufferThatIsReusedTooSoonIsFound) {
  ExpectFinding([&] { RunSteps(Gap::kBufferIsReusedAtOnce); });
}

TEST_F(StreamOrderMutantTest, StagingMemoryThatIsReusedTooSoonIsFound) {
  ExpectFinding([&] { RunSteps(Gap::kStagingIsReusedAtOnce); });
}

TEST_F(StreamOrderMutantTest, AResultThatIsTakenTooSoonIsFound) {
  ExpectFinding([&] { RunSteps(Gap::kResultIsTakenAtOnce); });
}

}  // namespace
}  // namespace trireme::gpusim
