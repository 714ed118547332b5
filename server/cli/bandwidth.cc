#include "server/cli/bandwidth.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iterator>
#include <thread>
#include <vector>

#include "runtime/base/clock.h"

namespace trireme {
namespace {

// Above the last-level caches of most servers, and little enough to be had on a small machine.
constexpr size_t kBytesTotal = size_t{512} << 20;
constexpr size_t kMinBytesPerThread = size_t{8} << 20;
constexpr size_t kPieceWords = (size_t{1} << 20) / sizeof(uint64_t);  // read between looks at time

// Independent sums: the loads of several cache lines are under way together.
uint64_t Sum(const uint64_t* words, size_t count) {
  uint64_t sums[16] = {};
  for (size_t i = 0; i + 16 <= count; i += 16) {
    for (size_t k = 0; k < 16; ++k) sums[k] += words[i + k];
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

// Memory of one thread, touched by it first so that it lies near it.
struct Area {
  explicit Area(size_t size) : bytes(size) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED) words = static_cast<uint64_t*>(memory);
  }
  ~Area() {
    if (words != nullptr) munmap(words, bytes);
  }
  Area(const Area&) = delete;
  Area& operator=(const Area&) = delete;

  const size_t bytes;
  uint64_t* words = nullptr;
};

}  // namespace

bool RateWindows::Count(absl::Duration elapsed, int64_t amount) {
  const double part = absl::FDivDuration(elapsed, duration_);
  if (part >= 1) return false;
  amounts_[static_cast<size_t>(part * kWindows)] += amount;
  return true;
}

double RateWindows::BestPerSecond() const {
  const int64_t most = *std::max_element(std::begin(amounts_), std::end(amounts_));
  return static_cast<double>(most) * kWindows / absl::ToDoubleSeconds(duration_);
}

absl::StatusOr<int64_t> MeasureReadBandwidth(int num_threads, absl::Duration duration) {
  const size_t bytes = std::max(kMinBytesPerThread, kBytesTotal / static_cast<size_t>(num_threads));
  const size_t count = bytes / sizeof(uint64_t);
  RateWindows words_read(duration);  // by all threads
  std::atomic<int> num_ready = 0;
  std::atomic<bool> failed = false;
  std::atomic<uint64_t> unused = 0;  // keeps the reads from being left out
  const Clock& clock = Clock::Monotonic();
  const auto work = [&] {
    const Area area(bytes);
    if (area.words == nullptr) {
      failed = true;
    } else {
      std::memset(area.words, 1, bytes);
    }
    ++num_ready;
    while (num_ready < num_threads) std::this_thread::yield();
    if (failed) return;
    const absl::Time start = clock.Now();
    uint64_t sum = 0;
    for (size_t at = 0;; at = at + 2 * kPieceWords <= count ? at + kPieceWords : 0) {
      sum += Sum(area.words + at, kPieceWords);
      if (!words_read.Count(clock.Now() - start, kPieceWords)) break;
    }
    unused += sum;
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < num_threads; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  if (failed) return absl::ResourceExhaustedError("no memory to measure the bandwidth with");
  return static_cast<int64_t>(words_read.BestPerSecond() * sizeof(uint64_t));
}

}  // namespace trireme
