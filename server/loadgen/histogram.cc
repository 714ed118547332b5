#include "server/loadgen/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace trireme::loadgen {

// Values below 2^kSubBits have a bucket each. Above, the highest kSubBits + 1 bits of a value name
// its bucket: the shift that leaves them, then those bits without the leading one.
int Histogram::BucketOf(uint64_t ns) {
  if (ns < (uint64_t{1} << kSubBits)) return static_cast<int>(ns);
  const int shift = std::bit_width(ns) - kSubBits - 1;
  const int sub = static_cast<int>(ns >> shift) - (1 << kSubBits);
  return ((shift + 1) << kSubBits) + sub;
}

double Histogram::Middle(int bucket) {
  if (bucket < (1 << kSubBits)) return bucket;
  const int shift = (bucket >> kSubBits) - 1;
  const double low = static_cast<double>((1 << kSubBits) + (bucket & ((1 << kSubBits) - 1)));
  return std::ldexp(low + 0.5, shift);
}

void Histogram::Add(int64_t ns) {
  ns = std::max<int64_t>(ns, 0);
  ++buckets_[static_cast<size_t>(BucketOf(static_cast<uint64_t>(ns)))];
  ++count_;
  sum_ns_ += static_cast<double>(ns);
  max_ns_ = std::max(max_ns_, ns);
}

double Histogram::PercentileNs(double percent) const {
  if (count_ == 0) return 0;
  const double wanted = std::ceil(percent / 100 * static_cast<double>(count_));
  const int64_t rank = std::clamp<int64_t>(static_cast<int64_t>(wanted), 1, count_);
  int64_t seen = 0;
  for (int bucket = 0; bucket < kNumBuckets; ++bucket) {
    seen += buckets_[static_cast<size_t>(bucket)];
    if (seen >= rank) return std::min(Middle(bucket), static_cast<double>(max_ns_));
  }
  return static_cast<double>(max_ns_);
}

}  // namespace trireme::loadgen
