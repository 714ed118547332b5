#include "runtime/backend/compute_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

#include "runtime/base/check.h"

namespace trireme {
namespace {

// About 50 us of pauses: longer than the serial work between two forks of a step, far shorter than
// a time slice.
constexpr int kSpins = 1500;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Spins until done() or the bound; true when done.
template <typename Done>
bool SpinUntil(Done done) {
  for (int i = 0; i < kSpins; ++i) {
    if (done()) return true;
    Pause();
  }
  return done();
}

// Binds the calling thread to the n-th CPU of its affinity mask (modulo their number). Best effort.
void PinToCpu(int n) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  int wanted = n % std::max(1, CPU_COUNT(&allowed));
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || wanted-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
    return;
  }
}

}  // namespace

ComputePool::ComputePool(const Options& options) {
  TRIREME_CHECK(options.num_threads >= 1 && options.num_threads <= static_cast<int>(kInsideMask));
  workers_.reserve(options.num_threads - 1);
  for (int thread = 1; thread < options.num_threads; ++thread) {
    workers_.emplace_back([this, thread, pin = options.pin] {
      if (pin) PinToCpu(thread);
      Work(thread);
    });
  }
}

ComputePool::~ComputePool() {
  stopping_.store(true, std::memory_order_relaxed);
  state_.fetch_add(kOpening, std::memory_order_release);
  state_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ComputePool::For(int64_t n, int64_t grain, RangeFunction fn) {
  if (n <= 0) return;
  if (workers_.empty() || n <= grain) {
    for (int64_t begin = 0; begin < n; begin += grain) fn(begin, std::min(n, begin + grain), 0);
    return;
  }
  size_ = n;
  grain_ = grain;
  fn_ = &fn;
  next_.store(0, std::memory_order_relaxed);
  state_.fetch_add(kOpening | kOpen, std::memory_order_release);
  state_.notify_all();  // a system call only when somebody sleeps
  RunRanges(0);
  CloseAndWait();
}

void ComputePool::RunRanges(int thread) {
  for (;;) {
    const int64_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
    if (begin >= size_) return;
    (*fn_)(begin, std::min(size_, begin + grain_), thread);
  }
}

void ComputePool::CloseAndWait() {
  const uint32_t closed = state_.fetch_and(~kOpen, std::memory_order_acq_rel);
  const auto empty = [this] { return (state_.load(std::memory_order_acquire) & kInsideMask) == 0; };
  if ((closed & kInsideMask) == 0 || SpinUntil(empty)) return;
  for (;;) {
    const uint32_t left = left_.load(std::memory_order_acquire);
    if (empty()) return;
    left_.wait(left, std::memory_order_acquire);
  }
}

void ComputePool::Work(int thread) {
  uint32_t seen = 0;  // the opening that this worker last took part in
  uint32_t state = 0;
  const auto opening = [&] { return state & ~(kInsideMask | kOpen); };
  // Something new to do: an opening that is still open and not yet served, or the end.
  const auto called = [&] {
    state = state_.load(std::memory_order_acquire);
    return ((state & kOpen) != 0 && opening() != seen) || stopping_.load(std::memory_order_relaxed);
  };
  for (;;) {
    while (!SpinUntil(called)) state_.wait(state, std::memory_order_acquire);
    if (stopping_.load(std::memory_order_relaxed)) return;
    if (!state_.compare_exchange_strong(state, state + 1, std::memory_order_acq_rel)) continue;
    seen = opening();
    RunRanges(thread);
    const uint32_t before = state_.fetch_sub(1, std::memory_order_acq_rel);
    if ((before & (kOpen | kInsideMask)) == 1) {  // the last one, and the caller may be waiting
      left_.fetch_add(1, std::memory_order_release);
      left_.notify_one();
    }
  }
}

}  // namespace trireme
