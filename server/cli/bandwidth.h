// How fast this machine reads memory: what bounds decoding.
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace trireme {

// What is counted over a duration, in ten equal parts of it: a ceiling is wanted, and so the part
// in which the least else was going on. Any thread may count.
class RateWindows {
 public:
  explicit RateWindows(absl::Duration duration) : duration_(duration) {}

  // False when the duration is over: then nothing is counted.
  bool Count(absl::Duration elapsed, int64_t amount);
  double BestPerSecond() const;

 private:
  static constexpr int kWindows = 10;

  const absl::Duration duration_;
  std::atomic<int64_t> amounts_[kWindows] = {};
};

// Bytes a second that `num_threads` threads read together from memory larger than the caches, in
// the best tenth of `duration`. RESOURCE_EXHAUSTED without that memory.
absl::StatusOr<int64_t> MeasureReadBandwidth(int num_threads, absl::Duration duration);

}  // namespace trireme
