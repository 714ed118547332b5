#include "runtime/base/clock.h"

#include <chrono>

#include "absl/time/clock.h"

namespace trireme {
namespace {

class MonotonicClock final : public Clock {
 public:
  MonotonicClock() : start_(absl::Now()), steady_start_(std::chrono::steady_clock::now()) {}
  absl::Time Now() const override {
    return start_ + absl::FromChrono(std::chrono::steady_clock::now() - steady_start_);
  }

 private:
  const absl::Time start_;
  const std::chrono::steady_clock::time_point steady_start_;
};

}  // namespace

const Clock& Clock::Monotonic() {
  static const MonotonicClock clock;
  return clock;
}

}  // namespace trireme
