// When an open loop means to send its requests.
#pragma once

#include <chrono>
#include <cstdint>

#include "server/loadgen/random.h"

namespace trireme::loadgen {

enum class ArrivalKind { kPoisson, kConstant };

// The schedule is made from the rate alone: a slow server does not delay it, which is what keeps
// omission uncoordinated (the latency of a request that had to wait counts the wait).
class Arrivals {
 public:
  Arrivals(ArrivalKind kind, double requests_per_s, uint64_t seed)
      : kind_(kind), mean_gap_s_(1 / requests_per_s), random_(seed) {}

  // Time of the next request since the start of the run. Constant: 0, 1/rate, 2/rate, ...
  std::chrono::nanoseconds Next() {
    if (kind_ == ArrivalKind::kConstant) {
      at_s_ = mean_gap_s_ * static_cast<double>(count_++);
    } else {
      at_s_ += mean_gap_s_ * random_.Exponential();
    }
    return std::chrono::nanoseconds(static_cast<int64_t>(at_s_ * 1e9));
  }

 private:
  const ArrivalKind kind_;
  const double mean_gap_s_;
  Random random_;
  double at_s_ = 0;
  int64_t count_ = 0;
};

}  // namespace trireme::loadgen
