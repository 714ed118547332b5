#include "runtime/base/worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

namespace trireme {
namespace {

using Length = WorkerPool::Length;

TEST(WorkerPoolTest, LongWorkLeavesAThreadForShortWork) {
  std::promise<void> release, done[5];
  std::shared_future<void> released = release.get_future().share();
  std::atomic<int> running = 0, most = 0;
  WorkerPool pool(2, 16);  // last: its threads end before what they use does
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(pool.TrySubmit(
        [&, released] {
          most = std::max(most.load(), ++running);
          released.wait();
          --running;
        },
        Length::kLong));
  }
  for (std::promise<void>& promise : done) {
    ASSERT_TRUE(pool.TrySubmit([&promise] { promise.set_value(); }));
    promise.get_future().wait();  // would hang if long work held both threads
  }
  while (running == 0) std::this_thread::yield();  // the short ones may have been faster
  EXPECT_EQ(most, 1);
  release.set_value();
}

TEST(WorkerPoolTest, RunsWhatIsQueuedBeforeItEnds) {
  std::atomic<int> ran = 0;
  {
    WorkerPool pool(2, 64);
    for (int i = 0; i < 40; ++i) {
      ASSERT_TRUE(pool.TrySubmit([&] { ++ran; }, i % 2 == 0 ? Length::kLong : Length::kShort));
    }
  }
  EXPECT_EQ(ran, 40);
}

TEST(WorkerPoolTest, RefusesBeyondItsBoundWhateverTheLength) {
  std::promise<void> started, release;
  WorkerPool pool(1, 2);
  ASSERT_TRUE(pool.TrySubmit([&] {
    started.set_value();
    release.get_future().wait();
  }));
  started.get_future().wait();
  ASSERT_TRUE(pool.TrySubmit([] {}, Length::kLong));
  ASSERT_TRUE(pool.TrySubmit([] {}));
  EXPECT_FALSE(pool.TrySubmit([] {}));
  EXPECT_FALSE(pool.TrySubmit([] {}, Length::kLong));
  release.set_value();
}

}  // namespace
}  // namespace trireme
