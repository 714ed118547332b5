// Arithmetic shared by the kernels, over the vector of one instruction set.
//
// A translation unit includes simd_<isa>.h first, which defines kWidth, Vec (kWidth floats), Mask,
// the operators + - * / and:
//   Broadcast(x)              Load(p), Store(p, v)   float, F16, BF16; rounds to nearest even
//   Fma(a, b, c) = a b + c    Max, Min               the second operand where either is NaN
//   Less(a, b)                Select(mask, yes, no)
//   LanesBetween(begin, end)  lanes begin <= i < end, for any begin and end
//   PowerOfTwo(x)             the float whose exponent field is the low byte of x's representation
//   ReduceAdd, ReduceMax      in halves, as LaneSum describes
// All of it has internal linkage, so that the linker can never replace one instruction set's
// function by another's.
//
// Every lane is computed alike and sums have one order whatever kWidth is: AVX2 and AVX-512 give
// the same bits.
#pragma once

#include <cstdint>
#include <cstring>

namespace trireme::cpu {
namespace {

// n < kWidth elements; the other lanes are zero, nothing beyond is touched.
template <class T>
inline Vec LoadPartial(const T* p, int64_t n) {
  T padded[kWidth] = {};
  std::memcpy(padded, p, n * sizeof(T));
  return Load(padded);
}
template <class T>
inline void StorePartial(T* p, Vec x, int64_t n) {
  T padded[kWidth];
  Store(padded, x);
  std::memcpy(p, padded, n * sizeof(T));
}

// Calls body(i, load, store) for consecutive vectors of [0, n), where load(p) reads p[i...] and
// store(p, v) writes it.
template <class Body>
inline void ForEachVector(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    body([i](const auto* p) { return Load(p + i); }, [i](auto* p, Vec x) { Store(p + i, x); });
  }
  if (i < n) {
    body([i, n](const auto* p) { return LoadPartial(p + i, n - i); },
         [i, n](auto* p, Vec x) { StorePartial(p + i, x, n - i); });
  }
}

// A sum in 32 lanes: element i goes to lane i % 32, and the lanes are added in halves (0 and 16, 1
// and 17, ...).
constexpr int kSumParts = 32 / kWidth;
struct LaneSum {
  Vec part[kSumParts] = {};

  float Total() {
    for (int half = kSumParts / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) part[i] = part[i] + part[i + half];
    }
    return ReduceAdd(part[0]);
  }
};

// e^x within 1.5 ulp; 0 below -87.7 and infinity above 88.4; NaN stays. No branches and no
// comparisons: the clamped ends make the power of two itself 0 or infinity.
inline Vec Exp(Vec x) {
  const Vec clamped = Min(Broadcast(89.0f), Max(Broadcast(-88.0f), x));
  // x = n ln2 + r: adding 1.5 * 2^23 + 127 leaves n, as an exponent is stored, in the low bits of
  // `shifted`; ln2 in two parts keeps r exact.
  const Vec magic = Broadcast(0x1.8p23f + 127.0f);
  const Vec shifted = Fma(clamped, Broadcast(0x1.715476p0f), magic);
  const Vec n = shifted - magic;
  Vec r = Fma(n, Broadcast(-0x1.62e4p-1f), clamped);
  r = Fma(n, Broadcast(-0x1.7f7d1cp-20f), r);
  // Minimax polynomial on |r| <= ln2 / 2, relative error 3e-9 before rounding.
  Vec p = Broadcast(0.001381459724f);
  p = Fma(p, r, Broadcast(0.008368716916f));
  p = Fma(p, r, Broadcast(0.04166838808f));
  p = Fma(p, r, Broadcast(0.1666652063f));
  p = Fma(p, r, Broadcast(0.4999999345f));
  p = Fma(p * r, r, r) + Broadcast(1.0f);
  return p * PowerOfTwo(shifted);
}

// tanh within 4 ulp.
inline Vec Tanh(Vec x) {
  const Vec square = x * x;
  Vec p = Broadcast(-0.005895158385f);  // minimax on |x| <= 0.6
  p = Fma(p, square, Broadcast(0.02079597192f));
  p = Fma(p, square, Broadcast(-0.05378383035f));
  p = Fma(p, square, Broadcast(0.1333192413f));
  p = Fma(p, square, Broadcast(-0.33333298f));
  const Vec small = Fma(p * square, x, x);
  const Vec one = Broadcast(1.0f), two = Broadcast(2.0f);
  const Vec large = one - two / (Exp(x + x) + one);
  return Select(Less(square, Broadcast(0.36f)), small, large);
}

// The normal distribution's cumulative function, absolute error below 2e-7.
inline Vec NormalCdf(Vec x) {
  const Vec z = Max(x, -x) * Broadcast(0x1.6a09e6p-1f);  // |x| / sqrt 2
  // erfc(z) = e^(-z^2) P(1 / (1 + 0.4 z)), P a minimax polynomial on 0 <= z <= 10, relative error
  // 3e-8.
  const Vec t = Broadcast(1.0f) / Fma(z, Broadcast(0.4f), Broadcast(1.0f));
  constexpr float kP[] = {0.02869576223f,  -0.07474898475f, -0.06368641958f, 0.2757885441f,
                          -0.06856710487f, 0.2686378209f,   0.1774162784f,   0.2313551523f,
                          0.2250825763f,   2.640519621e-5f};
  Vec p = Broadcast(kP[0]);
  for (int i = 1; i < 10; ++i) p = Fma(p, t, Broadcast(kP[i]));
  const Vec tail = Broadcast(0.5f) * p * Exp(-(z * z));
  return Select(Less(x, Broadcast(0.0f)), tail, Broadcast(1.0f) - tail);
}

}  // namespace
}  // namespace trireme::cpu
