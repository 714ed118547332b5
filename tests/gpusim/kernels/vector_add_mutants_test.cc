// The host's mistakes, and those of the smallest kernel.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "tests/gpusim/gpusim.h"
#include "tests/gpusim/kernels/vector_add.h"

namespace trireme::gpusim {
namespace {

constexpr int kN = 1000;
constexpr size_t kBytes = kN * sizeof(float);

testing::Matcher<const Finding&> Is(FindingKind kind) {
  return testing::Field(&Finding::kind, kind);
}

class VectorAddMutantTest : public testing::Test {
 protected:
  VectorAddMutantTest() : ones_(kN, 1.0f) {
    for (float** buffer : {&a_, &b_, &sum_}) cudaMalloc(buffer, kBytes);
    cudaMemcpy(a_, ones_.data(), kBytes, cudaMemcpyHostToDevice);
    cudaMemcpy(b_, ones_.data(), kBytes, cudaMemcpyHostToDevice);
  }
  ~VectorAddMutantTest() override {
    TakeFindings();
    cudaDeviceReset();
    for (float* buffer : {a_, b_, sum_}) cudaFree(buffer);
  }
  std::vector<float> ones_;
  float *a_ = nullptr, *b_ = nullptr, *sum_ = nullptr;
};

TEST_F(VectorAddMutantTest, RunningOverTheEndIsFoundAndSticks) {
  LaunchVectorAdd(a_, b_, sum_, kN, AddMutant::kNoBound, nullptr);  // may know already
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  const auto findings = TakeFindings();
  ASSERT_THAT(findings, testing::ElementsAre(Is(FindingKind::kOutOfBounds)));
  EXPECT_THAT(findings[0].file, testing::HasSubstr("vector_add.cu"));
  EXPECT_GT(findings[0].line, 0u);
  void* more;
  EXPECT_EQ(cudaMalloc(&more, 16), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaDeviceReset(), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(VectorAddMutantTest, AProcessThatLeavesFindingsBehindFails) {
  EXPECT_EXIT(
      {
        LaunchVectorAdd(a_, b_, sum_, kN, AddMutant::kNoBound, nullptr);
        cudaDeviceSynchronize();
        std::exit(0);
      },
      testing::ExitedWithCode(kExitFindings), "out of bounds");
}

TEST_F(VectorAddMutantTest, InputThatWasNeverWrittenIsFound) {
  float* fresh;
  ASSERT_EQ(cudaMalloc(&fresh, kBytes), cudaSuccess);
  ASSERT_EQ(LaunchVectorAdd(a_, fresh, sum_, kN, AddMutant::kNone, nullptr), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_THAT(TakeFindings(), testing::ElementsAre(Is(FindingKind::kUninitializedGlobal)));
  EXPECT_EQ(cudaFree(fresh), cudaSuccess);
}

TEST_F(VectorAddMutantTest, CopiesCarryWhatIsUndefinedAndSetsDefine) {
  float *fresh, *copy;
  ASSERT_EQ(cudaMalloc(&fresh, kBytes), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&copy, kBytes), cudaSuccess);
  ASSERT_EQ(cudaMemset(copy, 0, kBytes), cudaSuccess);
  LaunchVectorAdd(a_, copy, sum_, kN, AddMutant::kNone, nullptr);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_THAT(TakeFindings(), testing::IsEmpty());
  ASSERT_EQ(cudaMemcpy(copy, fresh, kBytes, cudaMemcpyDeviceToDevice), cudaSuccess);
  LaunchVectorAdd(a_, copy, sum_, kN, AddMutant::kNone, nullptr);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_THAT(TakeFindings(), testing::ElementsAre(Is(FindingKind::kUninitializedGlobal)));
  EXPECT_EQ(cudaFree(fresh), cudaSuccess);
  EXPECT_EQ(cudaFree(copy), cudaSuccess);
}

TEST_F(VectorAddMutantTest, CtasThatWriteTheSameElementsRace) {
  ASSERT_EQ(LaunchVectorAdd(a_, b_, sum_, kN, AddMutant::kCtasCollide, nullptr), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_THAT(TakeFindings(), testing::ElementsAre(Is(FindingKind::kRaceGlobal)));
}

// Page-locked memory holds the result only behind a wait: some seed shows it.
TEST_F(VectorAddMutantTest, AMissingSynchronisationIsSeenWithSomeSeed) {
  float* locked;
  ASSERT_EQ(cudaMallocHost(&locked, kBytes), cudaSuccess);
  cudaStream_t stream;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  int seen_early = 0;
  constexpr int kSeeds = 20;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SetSeed(seed);
    locked[0] = -1;
    LaunchVectorAdd(a_, b_, sum_, kN, AddMutant::kNone, stream);
    ASSERT_EQ(cudaMemcpyAsync(locked, sum_, kBytes, cudaMemcpyDeviceToHost, stream), cudaSuccess);
    seen_early += locked[0] == -1 ? 1 : 0;
    ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    EXPECT_EQ(locked[0], 2.5f);
  }
  EXPECT_GT(seen_early, 0);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(locked), cudaSuccess);
}

TEST_F(VectorAddMutantTest, AStreamThatDoesNotWaitForAnotherIsSeenWithSomeSeed) {
  cudaStream_t first, second;
  ASSERT_EQ(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking), cudaSuccess);
  cudaEvent_t event;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  for (const bool waits : {true, false}) {
    int wrong = 0;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SetSeed(seed);
      ASSERT_EQ(cudaMemset(sum_, 0, kBytes), cudaSuccess);
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      std::vector<float> out(kN);
      LaunchVectorAdd(a_, b_, sum_, kN, AddMutant::kNone, first);
      ASSERT_EQ(cudaEventRecord(event, first), cudaSuccess);
      if (waits) {
        ASSERT_EQ(cudaStreamWaitEvent(second, event, 0), cudaSuccess);
      }
      ASSERT_EQ(cudaMemcpyAsync(out.data(), sum_, kBytes, cudaMemcpyDeviceToHost, second),
                cudaSuccess);
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      wrong += out[0] != 2.5f ? 1 : 0;
    }
    EXPECT_EQ(wrong > 0, !waits);
  }
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(first), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(second), cudaSuccess);
}

}  // namespace
}  // namespace trireme::gpusim
