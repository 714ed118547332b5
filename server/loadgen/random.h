// Random numbers that are the same on every machine and with every standard library: a run with the
// same --seed sends the same requests.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace trireme::loadgen {

// SplitMix64 (Steele, Lea, Flood 2014). Streams of one seed are independent for our purposes.
class Random {
 public:
  explicit Random(uint64_t seed, uint64_t stream = 0) : state_(seed) {
    state_ = Next() ^ (stream * 0x9E3779B97F4A7C15);
    Next();
  }

  uint64_t Next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }  // [0, 1)
  uint64_t Below(uint64_t n) {  // [0, n), n > 0; the bias of 2^-64 n is nobody's concern
    return static_cast<uint64_t>((static_cast<unsigned __int128>(Next()) * n) >> 64);
  }
  double Exponential() { return -std::log1p(-Uniform()); }  // mean 1
  double Normal() {                                         // mean 0, deviation 1 (Box-Muller)
    const double radius = std::sqrt(2 * Exponential());
    return radius * std::cos(2 * std::numbers::pi * Uniform());
  }

 private:
  uint64_t state_;
};

}  // namespace trireme::loadgen
