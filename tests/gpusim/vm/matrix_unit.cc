#include "tests/gpusim/vm/matrix_unit.h"

#include <algorithm>
#include <cmath>

namespace trireme::gpusim {
namespace {

constexpr int kMaxColumns = 256;

// Sums of so many columns stay in registers.
template <int kColumns>
void AddColumns(const float* a, const float* b, float* c, int m, int n, int k) {
  for (int i = 0; i < m; ++i) {
    float sums[kColumns];
    std::copy_n(c + i * n, kColumns, sums);
    for (int p = 0; p < k; ++p) {
      const float x = a[i * k + p];
      const float* const row = b + p * n;
      for (int j = 0; j < kColumns; ++j) sums[j] += x * row[j];
    }
    std::copy_n(sums, kColumns, c + i * n);
  }
}

void InFloatOrder(const float* a, const float* b, float* c, int m, int n, int k) {
  int j = 0;
  for (; j + 32 <= n; j += 32) AddColumns<32>(a, b + j, c + j, m, n, k);
  for (; j + 8 <= n; j += 8) AddColumns<8>(a, b + j, c + j, m, n, k);
  for (; j < n; ++j) AddColumns<1>(a, b + j, c + j, m, n, k);
}

// One row's block: what is kept are multiples of 2^(exponent of the largest - fraction_bits), few
// enough for a double to hold their sum.
void AddBlock(const MatrixFormat& format, const float* a, const float* b, float* row, int n,
              int k) {
  float largest[kMaxColumns];
  for (int j = 0; j < n; ++j) largest[j] = std::fabs(row[j]);
  for (int p = 0; p < k; ++p) {
    for (int j = 0; j < n; ++j) largest[j] = std::max(largest[j], std::fabs(a[p] * b[p * n + j]));
  }
  for (int j = 0; j < n; ++j) {
    float plain = row[j];
    for (int p = 0; p < k; ++p) plain += a[p] * b[p * n + j];
    if (!std::isfinite(plain) || !std::isfinite(largest[j]) || largest[j] == 0) {
      row[j] = plain;
      continue;
    }
    const int exponent = std::ilogb(largest[j]) - format.fraction_bits;
    const double scale = std::ldexp(1.0, -exponent);
    double sum = std::trunc(row[j] * scale);
    for (int p = 0; p < k; ++p) sum += std::trunc(double{a[p] * b[p * n + j]} * scale);
    const double exact = sum / scale;
    float result = static_cast<float>(exact);
    if (std::fabs(double{result}) > std::fabs(exact)) result = std::nextafter(result, 0.0f);
    row[j] = result;
  }
}

}  // namespace

void MultiplyAdd(MatrixRounding rounding, const MatrixFormat& format, const float* a,
                 const float* b, float* c, int m, int n, int k) {
  if (rounding == MatrixRounding::kFloatOrder) return InFloatOrder(a, b, c, m, n, k);
  for (int first = 0; first < k; first += format.block) {
    const int block = std::min(format.block, k - first);
    for (int i = 0; i < m; ++i) {
      AddBlock(format, a + i * k + first, b + first * n, c + i * n, n, block);
    }
  }
}

}  // namespace trireme::gpusim
