// What the cores compute at most, measured: the ceiling of a matrix product.
#pragma once

namespace trireme {

struct CpuPeak {
  double fp32_gflop_per_s = 0;  // fused multiply-adds, two operations each
  // Products of 8 bits that are added up, two operations each: with VNNI one instruction, with AVX2
  // two, vpmaddubsw and vpaddw (a ceiling: sums of 16 bits must be widened now and then).
  double int8_gop_per_s = 0;
};

// On `threads` threads together, in registers only. Zeros where the CPU has no AVX2.
CpuPeak MeasureCpuPeak(int threads);

}  // namespace trireme
