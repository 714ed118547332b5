// The vector of simd.h in the compiler's vector extension: four lanes, which is what every CPU's
// base instruction set has (SSE2, NEON). Fma rounds twice here: a fused one would be a library call
// per lane.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/half.h"

namespace trireme::cpu {
namespace {

constexpr int kWidth = 4;
using Vec = float __attribute__((vector_size(16)));
using Bits = int32_t __attribute__((vector_size(16)));
using Mask = Bits;  // all bits of a lane

inline Bits BitsOf(Vec x) { return reinterpret_cast<Bits>(x); }
inline Vec FromBits(Bits x) { return reinterpret_cast<Vec>(x); }

inline Vec Broadcast(float x) { return Vec{x, x, x, x}; }
inline Vec Select(Mask mask, Vec yes, Vec no) { return mask ? yes : no; }
inline Vec Load(const float* p) {
  Vec x;
  std::memcpy(&x, p, sizeof(x));
  return x;
}
inline Bits LoadLow16(const void* p) {  // rows in files have no alignment
  uint16_t halves[4];
  std::memcpy(halves, p, sizeof(halves));
  return Bits{halves[0], halves[1], halves[2], halves[3]};
}
// The exponent is rebased by a multiplication, which is exact and gets the denormals right;
// infinity and NaN need their exponent completed.
inline Vec Load(const F16* p) {
  const Bits half = LoadLow16(p);
  const Bits magnitude = (half & 0x7fff) << 13;
  const Vec finite = FromBits(magnitude) * Broadcast(0x1p112f);
  const Vec special = FromBits(magnitude | 0x7f800000);
  const Vec absolute = Select(magnitude >= (0x7c00 << 13), special, finite);
  return FromBits(BitsOf(absolute) | ((half & 0x8000) << 16));
}
inline Vec Load(const BF16* p) { return FromBits(LoadLow16(p) << 16); }

inline void StoreLow16(void* p, Bits bits) {
  uint16_t halves[4];
  for (int i = 0; i < 4; ++i) halves[i] = static_cast<uint16_t>(bits[i]);
  std::memcpy(p, halves, sizeof(halves));
}
inline void Store(float* p, Vec x) { std::memcpy(p, &x, sizeof(x)); }
inline void Store(F16* p, Vec x) {
  const Bits magnitude = BitsOf(x) & 0x7fffffff;
  const Bits sign = (BitsOf(x) >> 16) & 0x8000;
  // Below 2^-14: adding 0.5 aligns the mantissa with half's denormals and rounds to even.
  const Bits denormal = BitsOf(FromBits(magnitude) + Broadcast(0.5f)) - 0x3f000000;
  const Bits normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  const Bits too_large = Bits{} + 0x7c00;
  const Bits nan = Bits{} + 0x7e00;
  Bits half = magnitude < 0x38800000 ? denormal : normal;
  half = magnitude >= 0x477ff000 ? too_large : half;
  half = magnitude > 0x7f800000 ? nan : half;
  StoreLow16(p, half | sign);
}
inline void Store(BF16* p, Vec x) {
  const Bits bits = BitsOf(x);
  const Bits high = (bits >> 16) & 0xffff;
  // 0x7fff plus the lowest kept bit, added without overflow of the sign: carries out of the low
  // half only.
  const Bits carry = ((bits & 0xffff) + 0x7fff + (high & 1)) >> 16;
  const Bits is_nan = (bits & 0x7fffffff) > 0x7f800000;
  StoreLow16(p, is_nan ? high | 0x40 : high + carry);
}

inline Vec Fma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec Max(Vec a, Vec b) { return a > b ? a : b; }
inline Vec Min(Vec a, Vec b) { return a < b ? a : b; }
inline Mask Less(Vec a, Vec b) { return a < b; }
inline Mask LanesBetween(int begin, int end) {
  const Bits lane = {0, 1, 2, 3};
  return (lane >= begin) & (lane < end);
}
inline Vec PowerOfTwo(Vec x) { return FromBits(BitsOf(x) << 23); }

inline float ReduceAdd(Vec x) { return (x[0] + x[2]) + (x[1] + x[3]); }
inline float ReduceMax(Vec x) {
  const float even = x[0] > x[2] ? x[0] : x[2];
  const float odd = x[1] > x[3] ? x[1] : x[3];
  return even > odd ? even : odd;
}

}  // namespace
}  // namespace trireme::cpu
