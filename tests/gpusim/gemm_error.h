// How far a GEMM's result may be off.
#pragma once

#include <algorithm>
#include <cmath>

namespace trireme::gpusim {

// The largest error of c(i, j) against the sum over p < k of a(i, p) b(j, p), in parts of what is
// allowed: float's rounding at each of k sums at worst, and bf16's of the result. Up to 1 is right.
template <typename A, typename B, typename C>
double WorstGemmError(int m, int n, int k, A&& a, B&& b, C&& c) {
  double worst = 0;
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) {
      double sum = 0, sizes = 0;
      for (int p = 0; p < k; ++p) {
        const double product = double{a(i, p)} * double{b(j, p)};
        sum += product;
        sizes += std::fabs(product);
      }
      const double bound = sizes * k * 0x1p-24 + std::fabs(sum) * 0x1p-8;
      const double error = std::fabs(double{c(i, j)} - sum);
      worst = std::max(worst, error <= bound ? error / bound : 1e9);  // a NaN is no match
    }
  }
  return worst;
}

}  // namespace trireme::gpusim
