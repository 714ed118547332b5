#include "kernels/cuda/comm/all_reduce.h"

#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/comm/rank_group.h"
#if TRIREME_GPUSIM
#include "tests/gpusim/gpusim.h"
#endif

namespace trireme::cuda {
namespace {

class AllReduceTest : public testing::TestWithParam<DType> {
 protected:
  static DType type() { return GetParam(); }

  void SetUp() override {
    if (!HasDevices(4)) GTEST_SKIP() << "skipped: fewer than 4 GPUs";
  }
  void TearDown() override { cudaSetDevice(0); }
};

TEST_P(AllReduceTest, AllRanksGetTheSameBitsEitherWay) {
  for (const int world : {2, 4}) {
    for (const auto& [rows, cols] : {std::pair{1, 8}, {3, 576}, {5, 2056}, {2, 8200}, {60, 1024}}) {
      SCOPED_TRACE(testing::Message() << world << " ranks " << rows << " x " << cols);
      const auto messages = Random(type(), world, int64_t{rows} * cols, 10);
      std::vector<Outcome> outcomes;
      for (auto* one_shot : {+[](size_t) { return true; }, +[](size_t) { return false; }}) {
        Group group(type(), world, rows, cols);
        for (Outcome& outcome : group.Run({messages}, one_shot)) outcomes.push_back(outcome);
      }
      const auto n = static_cast<size_t>(rows) * static_cast<size_t>(cols);
      const auto residual = Residual(type(), Normal(n, 1), messages);
      EXPECT_EQ(outcomes[0].x, residual);
      for (const Outcome& outcome : outcomes) ASSERT_TRUE(outcome == outcomes[0]);
      const auto y = Widen(type(), outcomes[0].y), gain = Normal(static_cast<size_t>(cols), 2);
      const double unit = type() == DType::kBF16 ? 0x1p-9 : 0x1p-12;
      std::vector<double> exact(static_cast<size_t>(cols));
      for (int64_t row = 0; row < rows; ++row) {
        reference::RmsNorm(residual.data() + row * cols, gain.data(), kEps, cols, exact.data());
        for (int64_t i = 0; i < cols; ++i) {
          const double wanted = exact[static_cast<size_t>(i)];
          ASSERT_NEAR(y[static_cast<size_t>(row * cols + i)], wanted,
                      2 * (std::abs(wanted) * unit + 0x1p-25));
        }
      }
    }
  }
}

TEST_P(AllReduceTest, CallsFollowEachOtherWithoutTheHost) {
  Group group(type(), 4, 50, 64);
  auto residual = Normal(50 * 64, 1);
  std::vector<Messages> calls;
  for (uint64_t call = 0; call < 8; ++call) {
    calls.push_back(Random(type(), 4, 50 * 64, 100 * call));
    residual = Residual(type(), residual, calls.back());
  }
  for (const Outcome& outcome : group.Run(calls, [](size_t call) { return call % 3 != 1; })) {
    EXPECT_EQ(outcome.x, residual);
  }
}

// No rank needs a thread of its own: all calls are in their streams before anybody waits.
TEST_P(AllReduceTest, OneThreadDrivesAllRanks) {
  Group group(type(), 4, 3, 64);
  auto residual = Normal(3 * 64, 1);
  std::vector<Messages> calls;
  for (size_t call = 0; call < 4; ++call) {
    calls.push_back(Random(type(), 4, 3 * 64, 100 * call));
    residual = Residual(type(), residual, calls.back());
    for (size_t rank = 4; rank-- > 0;) group.Enqueue(rank, call, calls.back(), call % 2 == 0);
  }
  for (const Outcome& outcome : group.Outcomes()) EXPECT_EQ(outcome.x, residual);
}

// What ranks have reached lies in their memory: replays follow each other, and other calls.
TEST_P(AllReduceTest, AGraphOfCallsIsReplayed) {
  constexpr size_t kCalls = 2, kReplays = 3;  // an even number of calls: see Peers::in
  Group group(type(), 2, 5, 64);
  std::vector<Messages> calls;
  for (size_t call = 0; call < kCalls; ++call)
    calls.push_back(Random(type(), 2, 5 * 64, 100 * call));
  auto residual = Normal(5 * 64, 1);
  for (size_t i = 0; i < kCalls * (kReplays + 1); ++i) {
    residual = Residual(type(), residual, calls[i % kCalls]);
  }
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      const cudaStream_t stream = group.ranks[rank]->stream;
      const auto enqueue = [&] {
        for (size_t call = 0; call < kCalls; ++call) {
          group.Enqueue(rank, call, calls[call], call == 0);
        }
      };
      enqueue();
      cudaGraph_t graph = nullptr;
      cudaGraphExec_t exec = nullptr;
      Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
      enqueue();
      Check(cudaStreamEndCapture(stream, &graph));
      Check(cudaGraphInstantiate(&exec, graph, 0));
      for (size_t i = 0; i < kReplays; ++i) Check(cudaGraphLaunch(exec, stream));
      Check(cudaStreamSynchronize(stream));
      Check(cudaGraphExecDestroy(exec));
      Check(cudaGraphDestroy(graph));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Outcome& outcome : group.Outcomes()) EXPECT_EQ(outcome.x, residual);
}

// Batch invariance: a row alone, one-shot, and among others, two-shot.
TEST_P(AllReduceTest, ARowHasTheSameBitsWhateverItsBatch) {
  constexpr int64_t kRows = 50, kCols = 72;
  const Messages messages = Random(type(), 2, kRows * kCols, 5);
  const auto whole =
      Group(type(), 2, kRows, kCols).Run({messages}, [](size_t) { return false; })[0];
  for (const int64_t row : {0, 1, 47, 48, 49}) {
    Messages of_row;
    for (const auto& message : messages) {
      of_row.emplace_back(message.begin() + row * kCols, message.begin() + (row + 1) * kCols);
    }
    Group group(type(), 2, 1, kCols);
    const auto x = Normal(kRows * kCols, 1);
    for (const auto& rank : group.ranks) {
      Check(cudaMemcpy(rank->x.get(), x.data() + row * kCols, kCols * sizeof(float),
                       cudaMemcpyDefault));
    }
    const auto alone = group.Run({of_row}, [](size_t) { return true; })[0];
    EXPECT_TRUE(std::equal(alone.x.begin(), alone.x.end(), whole.x.begin() + row * kCols));
    EXPECT_TRUE(std::equal(alone.y.begin(), alone.y.end(), whole.y.begin() + row * kCols));
  }
}

TEST_P(AllReduceTest, ARankThatWaitsForNobodyIsFreedByTheAbortWord) {
  Group group(type(), 2, 4, 64);
  Check(cudaSetDevice(0));
  const std::vector<uint16_t> zeros(4 * 64);
  for (const auto& rank : group.ranks) {
    Check(cudaMemcpy(rank->even.get(), zeros.data(), zeros.size() * 2, cudaMemcpyDefault));
  }
  uint32_t* abort = nullptr;
  Check(cudaMallocHost(reinterpret_cast<void**>(&abort), sizeof(uint32_t)));
  *abort = 0;
  Peers peers = group.PeersOf(0, 0);
  peers.abort = abort;
  Rank& lonely = *group.ranks[0];
  Check(AllReduceAddRmsNorm(type(), peers, true, lonely.x.get(), lonely.gain.get(), kEps, 4, 64,
                            lonely.y.get(), lonely.stream));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(cudaStreamQuery(lonely.stream), cudaErrorNotReady);
  std::atomic_ref<uint32_t>(*abort).store(1);
  Check(cudaStreamSynchronize(lonely.stream));
  Check(cudaFreeHost(abort));
}

#if TRIREME_GPUSIM
TEST_P(AllReduceTest, EachSectorIsReadOnce) {
  for (auto* one_shot : {+[](size_t) { return true; }, +[](size_t) { return false; }}) {
    Group(type(), 2, 3, 1024).Run({Random(type(), 2, 3 * 1024, 5)}, one_shot);
    const gpusim::Counters counters = gpusim::CountersOfLastLaunch();
    EXPECT_LE(counters.global_sectors, counters.global_sectors_min * 105 / 100);
    EXPECT_EQ(counters.shared_waves, counters.shared_waves_min);
  }
}
#endif

TEST_P(AllReduceTest, NoRowsAreNoCall) {
  Group group(type(), 2, 1, 64);
  const Messages messages = Random(type(), 2, 64, 5);
  Check(cudaSetDevice(0));
  const Rank& rank = *group.ranks[0];
  EXPECT_EQ(AllReduceAddRmsNorm(type(), group.PeersOf(0, 0), true, rank.x.get(), rank.gain.get(),
                                kEps, 0, 64, rank.y.get(), rank.stream),
            cudaSuccess);
  EXPECT_EQ(AllReduceAddRmsNorm(DType::kF32, group.PeersOf(0, 0), true, rank.x.get(),
                                rank.gain.get(), kEps, 1, 64, rank.y.get(), rank.stream),
            cudaErrorInvalidValue);
  const auto residual = Residual(type(), Normal(64, 1), messages);
  for (const Outcome& outcome : group.Run({messages}, [](size_t) { return true; })) {
    EXPECT_EQ(outcome.x, residual);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, AllReduceTest, testing::Values(DType::kBF16, DType::kF16),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

TEST(UsesOneShotTest, DependsOnRanksAndBytes) {
  EXPECT_TRUE(UsesOneShot(2, 64 << 20));
  EXPECT_TRUE(UsesOneShot(4, (512 << 10) - 1));
  EXPECT_FALSE(UsesOneShot(4, 512 << 10));
  EXPECT_TRUE(UsesOneShot(8, (256 << 10) - 1));
  EXPECT_FALSE(UsesOneShot(8, 256 << 10));
}

}  // namespace
}  // namespace trireme::cuda
