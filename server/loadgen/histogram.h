// Latencies of any number of events in bounded memory.
#pragma once

#include <cstdint>
#include <vector>

namespace trireme::loadgen {

// Log-linear buckets (as HdrHistogram has): 128 to each power of two of nanoseconds. A percentile
// is off by at most kRelativeError of itself; count, mean and max are exact.
class Histogram {
 public:
  static constexpr double kRelativeError = 1.0 / 256;

  Histogram() : buckets_(kNumBuckets) {}

  void Add(int64_t ns);  // negative: as 0
  int64_t count() const { return count_; }
  double mean_ns() const { return count_ == 0 ? 0 : sum_ns_ / static_cast<double>(count_); }
  int64_t max_ns() const { return max_ns_; }
  // The smallest value that `percent` of the events do not exceed (nearest rank); 0 without events.
  double PercentileNs(double percent) const;

 private:
  static constexpr int kSubBits = 7;
  static constexpr int kNumBuckets = (64 - kSubBits) << kSubBits;
  static int BucketOf(uint64_t ns);
  static double Middle(int bucket);

  std::vector<int64_t> buckets_;
  int64_t count_ = 0, max_ns_ = 0;
  double sum_ns_ = 0;
};

}  // namespace trireme::loadgen
