// A row of logits as its CTA sees it: keys, weights, sums. Every thread gets the same results.
#pragma once

#include <cstdint>

#include "kernels/cuda/sampling/sampling.h"

namespace trireme::cuda {

constexpr int kSampleThreads = 1024;
constexpr int kVector = 4;
constexpr int kTile = kSampleThreads * kVector;
constexpr int kMaxTiles = kMaxVocab / kTile;
constexpr int kMaxListed = kTile;
// Of candidates: by quarters of an octave of their weight, down to the last that counts.
constexpr int kBinsPerOctave = 4, kNumBins = 45 * kBinsPerOctave;

struct Scratch {
  uint64_t warps[32];
  uint64_t tiles[kMaxTiles];
  uint32_t bins[kNumBins];
  alignas(16) float listed_logits[kMaxListed];
  alignas(16) int32_t listed_ids[kMaxListed];
  int32_t token;
};

// Logits and whose they are: a whole row, or those listed of it.
struct Source {
  const float* logits;      // 16-byte aligned
  const int32_t* ids;       // null: 0, 1, 2 ...; ascending
  const uint32_t* allowed;  // null: all
  int n;

  // Four logits from `at` on; -infinity where there is none, or none that is allowed.
  __device__ void Load(int at, float (&x)[kVector]) const {
    if (at + kVector <= n) {
      const float4 v = *reinterpret_cast<const float4*>(logits + at);
      x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
    } else {
#pragma unroll
      for (int i = 0; i < kVector; ++i) x[i] = at + i < n ? logits[at + i] : -INFINITY;
    }
    if (allowed == nullptr || at >= n) return;
    const uint32_t bits = allowed[at / 32] >> (at % 32);
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] = (bits >> i & 1) != 0 ? x[i] : -INFINITY;
  }
  __device__ int Id(int at) const { return ids == nullptr ? at : ids[at]; }
};

// Unsigned numbers in the order of floats. -0 is 0; NaN is above everything.
constexpr uint32_t kMinusInfinityKey = 0x007fffffu, kInfinityKey = 0xff800000u;
constexpr uint32_t kNanKey = kInfinityKey + 1;
__device__ inline uint32_t KeyOf(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return kNanKey;
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline float FromKey(uint32_t key) {
  return __uint_as_float((key >> 31) != 0 ? key & 0x7fffffffu : ~key);
}
// The larger logit first, then the lower id.
__device__ inline uint64_t Rank(float logit, int id) {
  return static_cast<uint64_t>(KeyOf(logit)) << 32 | static_cast<uint32_t>(~id);
}

// Of a logit, in units of 2^-44 of the largest one's.
struct Weights {
  float max, scale, min_p;  // scale: log2(e) / temperature

  __device__ float Octaves(float logit) const { return (logit - max) * scale; }
  __device__ uint64_t operator()(float logit) const {
    const float weight = exp2f(Octaves(logit));
    return weight < min_p ? 0 : __float2ull_rn(weight * 0x1p44f);
  }
};

template <class Combine>
__device__ uint64_t Reduce(uint64_t x, Scratch& scratch, Combine combine) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    x = combine(x, __shfl_xor_sync(0xffffffffu, x, offset));
  }
  if (threadIdx.x % 32 == 0) scratch.warps[threadIdx.x / 32] = x;
  __syncthreads();
  x = scratch.warps[threadIdx.x % 32];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    x = combine(x, __shfl_xor_sync(0xffffffffu, x, offset));
  }
  __syncthreads();
  return x;
}

// f(logit, id) of all elements, summed up.
template <class F>
__device__ uint64_t Sum(const Source& source, Scratch& scratch, F f) {
  uint64_t sum = 0;
  for (int at = static_cast<int>(threadIdx.x) * kVector; at < source.n; at += kTile) {
    float x[kVector];
    source.Load(at, x);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      if (at + i < source.n) sum += f(x[i], source.Id(at + i));
    }
  }
  return Reduce(sum, scratch, [](uint64_t a, uint64_t b) { return a + b; });
}

// The best rank below `below`, 0 where there is none.
__device__ inline uint64_t Best(const Source& source, Scratch& scratch, uint64_t below) {
  uint64_t best = 0;
  for (int at = static_cast<int>(threadIdx.x) * kVector; at < source.n; at += kTile) {
    float x[kVector];
    source.Load(at, x);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      if (at + i >= source.n) break;
      const uint64_t rank = Rank(x[i], source.Id(at + i));
      if (rank < below && rank > best) best = rank;
    }
  }
  return Reduce(best, scratch, [](uint64_t a, uint64_t b) { return a > b ? a : b; });
}

// The last number of [low, high] at which `holds`, which holds up to some number and at `low`.
template <class Holds>
__device__ uint32_t LastWhere(uint32_t low, uint32_t high, Holds holds) {
  while (low < high) {
    const uint32_t middle = low + (high - low + 1) / 2;
    if (holds(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace trireme::cuda
