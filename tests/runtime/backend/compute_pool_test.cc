#include "runtime/backend/compute_pool.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace trireme {
namespace {

class ComputePoolTest : public testing::TestWithParam<int> {};  // number of threads

TEST_P(ComputePoolTest, EveryIndexIsVisitedOnce) {
  ComputePool pool({.num_threads = GetParam()});
  EXPECT_EQ(pool.num_threads(), GetParam());
  for (int64_t n : {0, 1, 2, 7, 64, 1000}) {
    for (int64_t grain : {1, 3, 64, 5000}) {
      std::vector<int> visits(n,
                              0);  // not atomic: the ranges are disjoint, the return is a barrier
      pool.For(n, grain, [&](int64_t begin, int64_t end, int) {
        EXPECT_LE(end - begin, grain);
        for (int64_t i = begin; i < end; ++i) ++visits[i];
      });
      EXPECT_EQ(visits, std::vector<int>(n, 1));
    }
  }
}

TEST_P(ComputePoolTest, NoTwoCallsShareAThreadIndex) {
  ComputePool pool({.num_threads = GetParam()});
  std::vector<std::atomic<int>> inside(GetParam());
  for (int round = 0; round < 200; ++round) {
    pool.For(64, 1, [&](int64_t, int64_t, int thread) {
      ASSERT_LT(thread, GetParam());
      EXPECT_EQ(inside[thread].fetch_add(1), 0);
      inside[thread].fetch_sub(1);
    });
  }
}

// Each fork reads what the one before wrote, on whatever thread.
TEST_P(ComputePoolTest, ManyForksInARowSeeEachOthersWrites) {
  ComputePool pool({.num_threads = GetParam()});
  constexpr int kSize = 16, kForks = 5000;
  std::vector<int64_t> a(kSize, 0), b(kSize, 0);
  for (int fork = 0; fork < kForks; ++fork) {
    pool.For(kSize, 1, [&](int64_t begin, int64_t, int) { b[begin] = a[(begin + 1) % kSize] + 1; });
    a.swap(b);
  }
  EXPECT_EQ(a, std::vector<int64_t>(kSize, kForks));
}

TEST_P(ComputePoolTest, MayBeDestroyedAtAnyMoment) {
  for (int i = 0; i < 100; ++i) {
    auto pool = std::make_unique<ComputePool>(ComputePool::Options{.num_threads = GetParam()});
    std::atomic<int> sum{0};
    if (i % 2 == 0) pool->For(8, 1, [&](int64_t, int64_t, int) { ++sum; });
    pool.reset();
    EXPECT_EQ(sum, i % 2 == 0 ? 8 : 0);
  }
}

// More threads than any test machine's CPUs, too.
INSTANTIATE_TEST_SUITE_P(Threads, ComputePoolTest, testing::Values(1, 2, 3, 16));

// Each of two calls waits for the other: hangs unless the worker comes, also after it went to
// sleep.
TEST(ComputePoolWakeTest, SleepingWorkersCome) {
  ComputePool pool({.num_threads = 2, .pin = true});
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::atomic<int> inside{0};
    pool.For(2, 1, [&](int64_t, int64_t, int) {
      ++inside;
      while (inside < 2) std::this_thread::yield();
    });
    EXPECT_EQ(inside, 2);
  }
}

}  // namespace
}  // namespace trireme
