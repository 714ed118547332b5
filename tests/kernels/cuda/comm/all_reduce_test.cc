#include "kernels/cuda/comm/all_reduce.h"

#include <gmock/gmock.h>

#include <atomic>
#include <memory>
#include <random>
#include <thread>

#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/device_memory.h"

namespace trireme::cuda {
namespace {

constexpr float kEps = 1e-5f;

std::vector<float> Normal(size_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

// A device of the group and what it has there.
struct Rank {
  Rank(int64_t rows, int64_t cols)
      : x(Normal(static_cast<size_t>(rows * cols), 1)),
        gain(Normal(static_cast<size_t>(cols), 2)),
        even(static_cast<size_t>(rows * cols)),
        odd(static_cast<size_t>(rows * cols)),
        shares(static_cast<size_t>(rows * cols)),
        y(static_cast<size_t>(rows * cols)),
        flags(std::vector<uint32_t>(kAllReduceFlags, 0)) {
    Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  }
  ~Rank() { cudaStreamDestroy(stream); }

  DeviceArray<float> x, gain;
  DeviceArray<uint16_t> even, odd, shares, y;  // even, odd: what calls sum up, in turn
  DeviceArray<uint32_t> flags;
  cudaStream_t stream = nullptr;
};

struct Outcome {
  std::vector<float> x;
  std::vector<uint16_t> y;
  bool operator==(const Outcome&) const = default;
};

using Messages = std::vector<std::vector<uint16_t>>;  // of each rank, [rows, cols]

class AllReduceTest : public testing::TestWithParam<DType> {
 protected:
  static DType type() { return GetParam(); }

  void SetUp() override {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count < 4) {
      GTEST_SKIP() << "skipped: fewer than 4 GPUs";
    }
    for (int device = 0; device < 4; ++device) {
      Check(cudaSetDevice(device));
      for (int peer = 0; peer < 4; ++peer) {
        if (peer == device) continue;
        const cudaError_t error = cudaDeviceEnablePeerAccess(peer, 0);
        if (error == cudaErrorPeerAccessAlreadyEnabled) cudaGetLastError();
      }
    }
  }
  void TearDown() override { cudaSetDevice(0); }

  struct Group {
    Group(int world, int64_t rows, int64_t cols) : rows(rows), cols(cols) {
      for (int rank = 0; rank < world; ++rank) {
        Check(cudaSetDevice(rank));
        ranks.push_back(std::make_unique<Rank>(rows, cols));
      }
    }
    Peers PeersOf(size_t rank, size_t call) const {
      Peers peers;
      peers.rank = static_cast<int>(rank);
      peers.world = static_cast<int>(ranks.size());
      for (size_t i = 0; i < ranks.size(); ++i) {
        peers.in[i] = (call % 2 == 0 ? ranks[i]->even : ranks[i]->odd).get();
        peers.shares[i] = ranks[i]->shares.get();
        peers.flags[i] = ranks[i]->flags.get();
      }
      return peers;
    }
    // Rank `i` writes its message and calls, in its stream.
    void Enqueue(size_t i, size_t call, const Messages& messages, bool one_shot) {
      Rank& rank = *ranks[i];
      Check(cudaSetDevice(static_cast<int>(i)));
      Check(cudaMemcpyAsync((call % 2 == 0 ? rank.even : rank.odd).get(), messages[i].data(),
                            messages[i].size() * 2, cudaMemcpyHostToDevice, rank.stream));
      Check(AllReduceAddRmsNorm(type(), PeersOf(i, call), one_shot, rank.x.get(), rank.gain.get(),
                                kEps, rows, cols, rank.y.get(), rank.stream));
    }
    // A thread drives each rank.
    std::vector<Outcome> Run(const std::vector<Messages>& calls, bool (*one_shot)(size_t call)) {
      std::vector<std::thread> threads;
      for (size_t i = 0; i < ranks.size(); ++i) {
        threads.emplace_back([this, i, one_shot, &calls] {
          for (size_t call = 0; call < calls.size(); ++call) {
            Enqueue(i, call, calls[call], one_shot(call));
          }
          Check(cudaStreamSynchronize(ranks[i]->stream));
        });
      }
      for (std::thread& thread : threads) thread.join();
      return Outcomes();
    }
    std::vector<Outcome> Outcomes() {
      std::vector<Outcome> outcomes;
      for (size_t i = 0; i < ranks.size(); ++i) {
        Check(cudaSetDevice(static_cast<int>(i)));
        Check(cudaStreamSynchronize(ranks[i]->stream));
        outcomes.push_back({ranks[i]->x.Read(), ranks[i]->y.Read()});
      }
      return outcomes;
    }

    int64_t rows, cols;
    std::vector<std::unique_ptr<Rank>> ranks;
  };

  // Every other element cancels but for what the order of the sum leaves of it.
  static Messages Random(int world, int64_t n, uint64_t seed) {
    Messages messages;
    for (int rank = 0; rank < world; ++rank) {
      auto values = Normal(static_cast<size_t>(n), seed + static_cast<uint64_t>(rank));
      for (size_t i = 0; i < values.size(); i += 2) {
        values[i] = rank % 2 == 1 ? values[i] * 1e-2f : rank == 0 ? 24576.0f : -24576.0f;
      }
      messages.push_back(Narrow(type(), values));
    }
    return messages;
  }
  // The residual behind the call, exactly: sums in the order of ranks, rounded once.
  static std::vector<float> Residual(const std::vector<float>& x, const Messages& messages) {
    std::vector<float> sum(x.size(), 0.0f);
    for (const auto& message : messages) {
      const auto wide = Widen(type(), message);
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += wide[i];
    }
    sum = Widen(type(), Narrow(type(), sum));
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += x[i];
    return sum;
  }
};

TEST_P(AllReduceTest, AllRanksGetTheSameBitsEitherWay) {
  for (const int world : {2, 4}) {
    for (const auto& [rows, cols] : {std::pair{1, 8}, {3, 576}, {5, 2056}, {2, 8200}, {60, 1024}}) {
      SCOPED_TRACE(testing::Message() << world << " ranks " << rows << " x " << cols);
      const auto messages = Random(world, int64_t{rows} * cols, 10);
      std::vector<Outcome> outcomes;
      for (auto* one_shot : {+[](size_t) { return true; }, +[](size_t) { return false; }}) {
        Group group(world, rows, cols);
        for (Outcome& outcome : group.Run({messages}, one_shot)) outcomes.push_back(outcome);
      }
      const auto n = static_cast<size_t>(rows) * static_cast<size_t>(cols);
      const auto residual = Residual(Normal(n, 1), messages);
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
  Group group(4, 50, 64);
  auto residual = Normal(50 * 64, 1);
  std::vector<Messages> calls;
  for (uint64_t call = 0; call < 8; ++call) {
    calls.push_back(Random(4, 50 * 64, 100 * call));
    residual = Residual(residual, calls.back());
  }
  for (const Outcome& outcome : group.Run(calls, [](size_t call) { return call % 3 != 1; })) {
    EXPECT_EQ(outcome.x, residual);
  }
}

// No rank needs a thread of its own: all calls are in their streams before anybody waits.
TEST_P(AllReduceTest, OneThreadDrivesAllRanks) {
  Group group(4, 3, 64);
  auto residual = Normal(3 * 64, 1);
  std::vector<Messages> calls;
  for (size_t call = 0; call < 4; ++call) {
    calls.push_back(Random(4, 3 * 64, 100 * call));
    residual = Residual(residual, calls.back());
    for (size_t rank = 4; rank-- > 0;) group.Enqueue(rank, call, calls.back(), call % 2 == 0);
  }
  for (const Outcome& outcome : group.Outcomes()) EXPECT_EQ(outcome.x, residual);
}

// What ranks have reached lies in their memory: replays follow each other, and other calls.
TEST_P(AllReduceTest, AGraphOfCallsIsReplayed) {
  constexpr size_t kCalls = 2, kReplays = 3;  // an even number of calls: see Peers::in
  Group group(2, 5, 64);
  std::vector<Messages> calls;
  for (size_t call = 0; call < kCalls; ++call) calls.push_back(Random(2, 5 * 64, 100 * call));
  auto residual = Normal(5 * 64, 1);
  for (size_t i = 0; i < kCalls * (kReplays + 1); ++i) {
    residual = Residual(residual, calls[i % kCalls]);
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
  const Messages messages = Random(2, kRows * kCols, 5);
  const auto whole = Group(2, kRows, kCols).Run({messages}, [](size_t) { return false; })[0];
  for (const int64_t row : {0, 1, 47, 48, 49}) {
    Messages of_row;
    for (const auto& message : messages) {
      of_row.emplace_back(message.begin() + row * kCols, message.begin() + (row + 1) * kCols);
    }
    Group group(2, 1, kCols);
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
  Group group(2, 4, 64);
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
