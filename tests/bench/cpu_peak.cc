#include "tests/bench/cpu_peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace trireme {

#if defined(__x86_64__)
namespace {

constexpr int kAccumulators = 12;  // enough for two units of latency four
constexpr int64_t kRounds = 2'000'000;
constexpr int kRepeats = 5;  // the best: a ceiling

// A value that the compiler knows nothing about, so that equal sums are not computed once.
#define TRIREME_UNKNOWN(value) asm volatile("" : "+v"(value))
// Once the whole array `sums`: `s` is each in turn. A loop that is not unrolled would put the array
// into memory.
#define TRIREME_ROUNDS(sums, update)                                    \
  _Pragma("GCC unroll 12") for (auto& s : sums) { TRIREME_UNKNOWN(s); } \
  for (int64_t i = 0; i < kRounds; ++i) {                               \
    _Pragma("GCC unroll 12") for (auto& s : sums) {                     \
      update;                                                           \
      TRIREME_UNKNOWN(s);                                               \
    }                                                                   \
  }

__attribute__((target("avx2,fma"))) void Fp32Avx2() {
  __m256 sums[kAccumulators] = {};
  const __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
  TRIREME_ROUNDS(sums, s = _mm256_fmadd_ps(a, b, s))
}
__attribute__((target("avx2"))) void Int8Avx2() {
  __m256i sums[kAccumulators] = {};
  const __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5);
  // As text: GCC would compute the product of the same two once.
  TRIREME_ROUNDS(sums, __m256i product; asm volatile("vpmaddubsw %2, %3, %1\n\tvpaddw %1, %0, %0"
                                                     : "+x"(s), "=&x"(product)
                                                     : "x"(a), "x"(b)))
}
__attribute__((target("avx512f"))) void Fp32Avx512() {
  __m512 sums[kAccumulators] = {};
  const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
  TRIREME_ROUNDS(sums, s = _mm512_fmadd_ps(a, b, s))
}
__attribute__((target("avx512f,avx512vnni"))) void Int8Vnni() {
  __m512i sums[kAccumulators] = {};
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
  TRIREME_ROUNDS(sums, s = _mm512_dpbusd_epi32(s, a, b))
}

// Operations a second, in units of 1e9, when all threads run `loop`, whose every instruction does
// `operations`.
double Rate(int threads, double operations, void (*loop)()) {
  double best = 0;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    std::atomic<int> waiting = threads;
    std::atomic<int64_t> slowest_ns = 0;
    const auto work = [&] {
      --waiting;
      while (waiting > 0) std::this_thread::yield();
      const auto start = std::chrono::steady_clock::now();
      loop();
      const int64_t ns = (std::chrono::steady_clock::now() - start).count();
      int64_t seen = slowest_ns;
      while (ns > seen && !slowest_ns.compare_exchange_weak(seen, ns)) {
      }
    };
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
    best = std::max(best, operations * kAccumulators * kRounds * threads /
                              static_cast<double>(slowest_ns.load()));
  }
  return best;
}

}  // namespace

CpuPeak MeasureCpuPeak(int threads) {
  CpuPeak peak;
  if (__builtin_cpu_supports("avx512vnni") != 0) {
    peak.fp32_gflop_per_s = Rate(threads, 2 * 16, Fp32Avx512);
    peak.int8_gop_per_s = Rate(threads, 2 * 64, Int8Vnni);
  } else if (__builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0) {
    peak.fp32_gflop_per_s = Rate(threads, 2 * 8, Fp32Avx2);
    peak.int8_gop_per_s = Rate(threads, 2 * 32, Int8Avx2);
  }
  return peak;
}
#else
CpuPeak MeasureCpuPeak(int) { return {}; }
#endif

}  // namespace trireme
