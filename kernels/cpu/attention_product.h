// The micro-kernel of attention, and the sizes of its tiles: part of attention_impl.h.
//
//     c[row, vector v] += a[row, k] * b[v][k * b_stride]    for k in [begin, end)
#pragma once

#include "kernels/cpu/simd.h"

namespace trireme::cpu {
namespace {

constexpr int kTile = 64;      // KV positions
constexpr int kMaxRows = 128;  // rows per pass over the KV
constexpr int kMicroRows = 6;  // rows per micro-kernel
constexpr int kTileVectors = kTile / kWidth;

inline int64_t RoundUp(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
inline int64_t Smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t Larger(int64_t a, int64_t b) { return a < b ? b : a; }

template <class T>
struct Product {
  const float* a;  // [rows, ...], rows a_stride apart
  int64_t a_stride;
  const T* const* b;
  int64_t b_stride;
  int begin, end;
  float* c;  // [rows, num_vectors * kWidth], rows c_stride apart
  int64_t c_stride;
};

// All of c's tile stays in registers.
template <int kRows, int kVectors, class T>
inline void MultiplyTile(const Product<T>& p, int first_vector) {
  Vec sum[kRows][kVectors];
  const T* b[kVectors];
  float* c = p.c + first_vector * kWidth;
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    b[v] = p.b[first_vector + v] + p.begin * p.b_stride;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum[r][v] = Load(c + r * p.c_stride + v * kWidth);
  }
  for (int k = p.begin; k < p.end; ++k) {
    // One operand is held, the other passes through one register: 3 x 4 and 6 x 2 just fit 16
    // registers.
    if constexpr (kRows < kVectors) {
      Vec weight[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) weight[r] = Broadcast(p.a[r * p.a_stride + k]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const Vec x = Load(b[v]);
        b[v] += p.b_stride;
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) sum[r][v] = Fma(weight[r], x, sum[r][v]);
      }
    } else {
      Vec x[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        x[v] = Load(b[v]);
        b[v] += p.b_stride;
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const Vec weight = Broadcast(p.a[r * p.a_stride + k]);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sum[r][v] = Fma(weight, x[v], sum[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) Store(c + r * p.c_stride + v * kWidth, sum[r][v]);
  }
}

template <int kRows, class T>
void MultiplyRows(const Product<T>& p, int first_vector, int end_vector) {
  // Enough accumulators to hide the latency of a multiply-add, but no more than registers: 32 in
  // AVX-512, else 16.
  constexpr bool kWide = kWidth == 16 || kRows <= 3;
  int v = first_vector;
  if constexpr (kRows == 1) {
    for (; v + 8 <= end_vector; v += 8) MultiplyTile<1, 8>(p, v);
  }
  if constexpr (kWide) {
    for (; v + 4 <= end_vector; v += 4) MultiplyTile<kRows, 4>(p, v);
  }
  for (; v + 2 <= end_vector; v += 2) MultiplyTile<kRows, 2>(p, v);
  if (v < end_vector) MultiplyTile<kRows, 1>(p, v);
}

template <class T>
inline void Multiply(int rows, const Product<T>& p, int first_vector, int end_vector) {
  switch (rows) {
    case 1:
      return MultiplyRows<1>(p, first_vector, end_vector);
    case 2:
      return MultiplyRows<2>(p, first_vector, end_vector);
    case 3:
      return MultiplyRows<3>(p, first_vector, end_vector);
    case 4:
      return MultiplyRows<4>(p, first_vector, end_vector);
    case 5:
      return MultiplyRows<5>(p, first_vector, end_vector);
    default:
      return MultiplyRows<kMicroRows>(p, first_vector, end_vector);
  }
}

}  // namespace
}  // namespace trireme::cpu
