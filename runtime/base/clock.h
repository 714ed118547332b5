// Time as an injected dependency: production reads the monotonic clock, tests move it by hand.
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace trireme {

// Thread-safe. Now() never goes backwards, whatever the wall clock does; only differences are
// meaningful.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;

  // The process-wide monotonic clock, anchored to the wall clock at first use.
  static const Clock& Monotonic();
};

class ManualClock final : public Clock {
 public:
  explicit ManualClock(absl::Time start = absl::UnixEpoch()) : nanos_(absl::ToUnixNanos(start)) {}
  absl::Time Now() const override { return absl::FromUnixNanos(nanos_.load()); }
  void Advance(absl::Duration d) { nanos_ += absl::ToInt64Nanoseconds(d); }

 private:
  std::atomic<int64_t> nanos_;
};

}  // namespace trireme
