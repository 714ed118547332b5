// How tensor cores add up. PTX leaves it open; measured hardware differs from float arithmetic.
#pragma once

#include <cstdint>

namespace trireme::gpusim {

enum class MatrixRounding : uint8_t {
  // Products and sums in float, one after the other in the order of k.
  kFloatOrder,
  // Blocks of products and the accumulator are aligned to the largest exponent among them, bits
  // that fall out are
  // dropped, the sum is exact and its rest dropped again. (Fasi, Higham, Mikaitis, Pranesh 2021,
  // "Numerical
  // behavior of NVIDIA tensor cores"; Li et al. 2024, "FTTN", for H100: at least two bits beyond
  // float's, blocks
  // of 16 for 16-bit elements. fp8: 13 bits behind the leading one, as seen by DeepSeek-V3's
  // authors, 2024.)
  kTruncate,
};

// What tells the formats apart.
struct MatrixFormat {
  int block = 16;          // products added at once
  int fraction_bits = 25;  // that are kept behind the largest exponent
};

// c[i][j] += sum over k of a[i][k] b[k][j]; dense rows, products exact in float.
void MultiplyAdd(MatrixRounding rounding, const MatrixFormat& format, const float* a,
                 const float* b, float* c, int m, int n, int k);

}  // namespace trireme::gpusim
