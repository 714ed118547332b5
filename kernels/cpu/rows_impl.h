// Row operators of kernels/ops.h over the vector of one instruction set: included by rows_<isa>.cc
// after simd_<isa>.h.
#pragma once

#include <bit>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd.h"

namespace trireme::cpu {
namespace {

// Adds up square(i, load) over the vectors of [0, n), in LaneSum's order.
template <class Square>
inline float SumOfSquares(int64_t n, Square square) {
  LaneSum sum;
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    for (int part = 0; part < kSumParts; ++part) {
      const Vec x = square(i + part * kWidth, kWidth);
      sum.part[part] = Fma(x, x, sum.part[part]);
    }
  }
  for (int part = 0; part < kSumParts; ++part, i += kWidth) {
    if (i >= n) break;
    const Vec x = square(i, n - i < kWidth ? n - i : kWidth);
    sum.part[part] = Fma(x, x, sum.part[part]);
  }
  return sum.Total();
}

inline void Normalize(const float* x, const float* gain, float eps, float sum_of_squares, int64_t n,
                      float* y) {
  const Vec inverse =
      Broadcast(1.0f / __builtin_sqrtf(sum_of_squares / static_cast<float>(n) + eps));
  ForEachVector(n, [=](auto load, auto store) { store(y, load(x) * inverse * load(gain)); });
}

void RmsNorm(const float* x, const float* gain, float eps, int64_t n, float* y) {
  const float sum = SumOfSquares(n, [=](int64_t i, int64_t count) {
    return count == kWidth ? Load(x + i) : LoadPartial(x + i, count);
  });
  Normalize(x, gain, eps, sum, n, y);
}

void AddRmsNorm(float* x, const float* delta, const float* gain, float eps, int64_t n, float* y) {
  const float sum = SumOfSquares(n, [=](int64_t i, int64_t count) {
    if (count == kWidth) {
      const Vec updated = Load(x + i) + Load(delta + i);
      Store(x + i, updated);
      return updated;
    }
    const Vec updated = LoadPartial(x + i, count) + LoadPartial(delta + i, count);
    StorePartial(x + i, updated, count);
    return updated;
  });
  Normalize(x, gain, eps, sum, n, y);
}

void Add(float* x, const float* delta, int64_t n) {
  ForEachVector(n, [=](auto load, auto store) { store(x, load(x) + load(delta)); });
}

inline Vec Silu(Vec x) { return x / (Broadcast(1.0f) + Exp(-x)); }
inline Vec Gelu(Vec x) { return x * NormalCdf(x); }
// 0.5 x (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
inline Vec GeluTanh(Vec x) {
  const Vec cubic = Fma(x * x * x, Broadcast(0.044715f), x);
  return x / (Broadcast(1.0f) + Exp(Broadcast(-1.5957691216f) * cubic));
}

void GatedActivation(Activation act, const float* gate, const float* up, int64_t n, float* out) {
  const auto apply = [=](auto activation) {
    ForEachVector(n, [=](auto load, auto store) { store(out, activation(load(gate)) * load(up)); });
  };
  switch (act) {
    case Activation::kSilu:
      return apply([](Vec x) { return Silu(x); });
    case Activation::kGeluTanh:
      return apply([](Vec x) { return GeluTanh(x); });
    case Activation::kGelu:
      return apply([](Vec x) { return Gelu(x); });
  }
}

// sin and cos in double, absolute error below 1e-9 for angles up to 2^24 (positions of any real
// context); plain arithmetic without branches, so that the compiler vectorises the loop that calls
// it.
inline void SinCos(double angle, double* sin, double* cos) {
  // angle = n pi/2 + r: adding 1.5 * 2^52 leaves n in the low bits; pi/2 in two parts, the first of
  // 33 bits.
  const double shifted = angle * 0x1.45f306dc9c883p-1 + 0x1.8p52;
  const double n = shifted - 0x1.8p52;
  const double r = (angle - n * 0x1.921fb544p0) - n * 0x1.0b4611a626331p-34;
  const double q = r * r;
  // Taylor series on |r| <= pi/4.
  const double s =
      r + r * q *
              (-1.0 / 6 +
               q * (1.0 / 120 + q * (-1.0 / 5040 + q * (1.0 / 362880 - q * (1.0 / 39916800)))));
  const double c =
      1 - q * (0.5 - q * (1.0 / 24 -
                          q * (1.0 / 720 -
                               q * (1.0 / 40320 - q * (1.0 / 3628800 - q * (1.0 / 479001600))))));
  const int64_t quadrant = std::bit_cast<int64_t>(shifted);
  const double sin_magnitude = (quadrant & 1) ? c : s;
  const double cos_magnitude = (quadrant & 1) ? s : c;
  *sin = (quadrant & 2) ? -sin_magnitude : sin_magnitude;
  *cos = ((quadrant + 1) & 2) ? -cos_magnitude : cos_magnitude;
}

constexpr int kRopePairs = 64;  // pairs whose sines and cosines are held at a time

// Pairs [first, first + count) of one head.
inline void RotatePairs(bool interleaved, int rotary_dim, int first, int count, const float* sin,
                        const float* cos, float* x) {
  float* a = interleaved ? x + 2 * first : x + first;
  float* b = interleaved ? a + 1 : a + rotary_dim / 2;
  const auto rotate = [=](int stride) {
    for (int i = 0; i < count; ++i) {
      const float re = a[i * stride], im = b[i * stride];
      a[i * stride] = re * cos[i] - im * sin[i];
      b[i * stride] = re * sin[i] + im * cos[i];
    }
  };
  interleaved ? rotate(2) : rotate(1);
}

void Rope(const RopeTable& table, int64_t position, int num_heads, int head_dim, float* x) {
  const int num_pairs = table.rotary_dim / 2;
  for (int first = 0; first < num_pairs; first += kRopePairs) {
    const int count = num_pairs - first < kRopePairs ? num_pairs - first : kRopePairs;
    float sin[kRopePairs], cos[kRopePairs];
    for (int i = 0; i < count; ++i) {
      double s, c;
      SinCos(static_cast<double>(position) * table.inverse_frequency[first + i], &s, &c);
      sin[i] = static_cast<float>(s * table.magnitude);
      cos[i] = static_cast<float>(c * table.magnitude);
    }
    for (int h = 0; h < num_heads; ++h) {
      RotatePairs(table.interleaved, table.rotary_dim, first, count, sin, cos,
                  x + int64_t{h} * head_dim);
    }
  }
}

void FillRows(Kernels* table) {
  table->rms_norm = RmsNorm;
  table->add_rms_norm = AddRmsNorm;
  table->add = Add;
  table->gated_activation = GatedActivation;
  table->rope = Rope;
}

}  // namespace
}  // namespace trireme::cpu
