// Which tokens of a row may be drawn, and the drawing.
#pragma once

#include "kernels/cuda/sampling/row.cuh"

namespace trireme::cuda {

// What the filters have kept so far: what ranks from `last` on and weighs something; by typical_p,
// what is as near to the mean as `last_typical` says.
struct Kept {
  Weights weights;
  uint64_t last = 0;          // the lowest rank
  float mean = 0;             // of the octaves
  uint64_t last_typical = 0;  // the lowest rank of Nearness; 0: any

  // Octaves are a token's surprise up to the sign and a constant, their mean is the entropy's.
  __device__ float Nearness(float logit) const { return -fabsf(weights.Octaves(logit) - mean); }
  __device__ bool operator()(float logit, int id) const {
    return Rank(logit, id) >= last &&
           (last_typical == 0 || Rank(Nearness(logit), id) >= last_typical);
  }
  __device__ uint64_t Weight(float logit, int id) const {
    return (*this)(logit, id) ? weights(logit) : 0;
  }
  __device__ uint64_t Count(float logit, int id) const { return Weight(logit, id) != 0 ? 1 : 0; }
};

// Before this thread's own in the order of threads.
__device__ inline uint64_t SumBefore(uint64_t own, Scratch& scratch) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint64_t sum = own;
#pragma unroll
  for (unsigned offset = 1; offset < 32; offset *= 2) {
    const uint64_t other = __shfl_up_sync(0xffffffffu, sum, offset);
    if (lane >= offset) sum += other;
  }
  if (lane == 31) scratch.warps[warp] = sum;
  __syncthreads();
  uint64_t before = lane < warp ? scratch.warps[lane] : 0;
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    before += __shfl_xor_sync(0xffffffffu, before, offset);
  }
  __syncthreads();
  return before + sum - own;
}

struct List {
  Source source;
  bool complete;  // holds everything that weighs something
};

// Lists as many of the heaviest tokens of `row` as fit, in the order of their ids.
__device__ inline List Collect(const Source& row, const Weights& weights, Scratch& scratch) {
  for (int bin = static_cast<int>(threadIdx.x); bin < kNumBins; bin += kSampleThreads) {
    scratch.bins[bin] = 0;
  }
  __syncthreads();
  const auto bin_of = [&](float logit) {
    return fminf(weights.Octaves(logit) * -kBinsPerOctave, kNumBins);
  };
  Sum(row, scratch, [&](float logit, int) {
    const auto bin = static_cast<int>(bin_of(logit));
    if (bin < kNumBins) atomicAdd(&scratch.bins[bin], 1u);
    return 0u;
  });
  const auto end_bin = static_cast<int>(LastWhere(0, kNumBins, [&](uint32_t end) {
    const uint32_t count = threadIdx.x < end ? scratch.bins[threadIdx.x] : 0;
    return Reduce(count, scratch, [](uint64_t a, uint64_t b) { return a + b; }) <= kMaxListed;
  }));

  int n = 0;
  for (int tile = 0; tile < row.n; tile += kTile) {
    const int at = tile + static_cast<int>(threadIdx.x) * kVector;
    float x[kVector];
    row.Load(at, x);
    uint32_t own = 0;
#pragma unroll
    for (int i = 0; i < kVector; ++i) own += static_cast<int>(bin_of(x[i])) < end_bin ? 1 : 0;
    int to = n + static_cast<int>(SumBefore(own, scratch));
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      if (static_cast<int>(bin_of(x[i])) >= end_bin) continue;
      scratch.listed_logits[to] = x[i];
      scratch.listed_ids[to++] = row.Id(at + i);
    }
    n += static_cast<int>(Reduce(own, scratch, [](uint64_t a, uint64_t b) { return a + b; }));
  }
  __syncthreads();
  const float heaviest_outside = exp2f(static_cast<float>(-end_bin) / kBinsPerOctave);
  return {{scratch.listed_logits, scratch.listed_ids, nullptr, n},
          end_bin == kNumBins || heaviest_outside < weights.min_p};
}

// The last rank of the shortest run, by score and lower id, whose sum of f(logit, id) is at least
// `enough`. No score is above `best`.
template <class Score, class F>
__device__ uint64_t LastOfHead(const Source& source, Scratch& scratch, uint64_t enough, float best,
                               Score score, F f) {
  const uint32_t key = LastWhere(kMinusInfinityKey, KeyOf(best), [&](uint32_t least) {
    return Sum(source, scratch, [&](float logit, int id) {
             return KeyOf(score(logit)) >= least ? f(logit, id) : 0;
           }) >= enough;
  });
  const uint64_t above = Sum(source, scratch, [&](float logit, int id) {
    return KeyOf(score(logit)) > key ? f(logit, id) : 0;
  });
  // Of those with this score, the lowest ids.
  const auto ties_before = [&](uint32_t end) {
    return Sum(source, scratch, [&](float logit, int id) {
      return KeyOf(score(logit)) == key && static_cast<uint32_t>(id) < end ? f(logit, id) : 0;
    });
  };
  const uint32_t last_id = LastWhere(
      0, kMaxVocab, [&](uint32_t end) { return end == 0 || above + ties_before(end) < enough; });
  return static_cast<uint64_t>(key) << 32 | static_cast<uint32_t>(~last_id);
}

// The sum that is `share` of `total`, or the least above it.
__device__ inline uint64_t ShareOf(uint64_t total, float share) {
  return static_cast<uint64_t>(ceil(static_cast<double>(share) * static_cast<double>(total)));
}

// Keeps, of what is kept, the tokens whose surprise is nearest to the entropy (Meister et al.,
// 2022) and that have `mass` of the weight.
__device__ inline void KeepTypical(const Source& source, float mass, Scratch& scratch, Kept* kept) {
  const auto weight = [&](float logit, int id) { return kept->Weight(logit, id); };
  const uint64_t total = Sum(source, scratch, weight);
  // x / 2^x is at most 0.54: the sum stays below 2^64.
  const uint64_t octaves = Sum(source, scratch, [&](float logit, int id) {
    const uint64_t w = weight(logit, id);
    const double below = -static_cast<double>(kept->weights.Octaves(logit));
    return w == 0 ? 0 : __double2ull_rn(static_cast<double>(w) * below);
  });
  kept->mean = -static_cast<float>(static_cast<double>(octaves) / static_cast<double>(total));
  kept->last_typical = LastOfHead(
      source, scratch, ShareOf(total, mass), 0.0f,
      [&](float logit) { return kept->Nearness(logit); }, weight);
}

// u64: uniform. The first id at which the weights so far exceed u64 / 2^64 of all. Something of the
// source weighs something: every filter leaves a token.
__device__ inline int Draw(const Source& source, const Kept& kept, uint64_t u64, Scratch& scratch) {
  const int num_tiles = (source.n + kTile - 1) / kTile;
  for (int tile = static_cast<int>(threadIdx.x); tile < num_tiles; tile += kSampleThreads) {
    scratch.tiles[tile] = 0;
  }
  __syncthreads();
  const auto weight_at = [&](int at, uint64_t(&weight)[kVector]) {
    float x[kVector];
    source.Load(at, x);
    uint64_t sum = 0;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      weight[i] = at + i < source.n ? kept.Weight(x[i], source.Id(at + i)) : 0;
      sum += weight[i];
    }
    return sum;
  };
  uint64_t weight[kVector];
  for (int tile = 0; tile < num_tiles; ++tile) {
    uint64_t sum = weight_at(tile * kTile + static_cast<int>(threadIdx.x) * kVector, weight);
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    }
    if (threadIdx.x % 32 == 0 && sum != 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(&scratch.tiles[tile]), sum);
    }
  }
  __syncthreads();
  uint64_t total = 0;
  for (int tile = 0; tile < num_tiles; ++tile) total += scratch.tiles[tile];
  uint64_t left = __umul64hi(u64, total);
  int tile = 0;
  while (left >= scratch.tiles[tile]) left -= scratch.tiles[tile++];
  const int at = tile * kTile + static_cast<int>(threadIdx.x) * kVector;
  const uint64_t own = weight_at(at, weight);
  uint64_t before = SumBefore(own, scratch);
  if (before <= left && left < before + own) {
    int chosen = at;
#pragma unroll
    for (int i = 0; i < kVector - 1; ++i) {
      before += weight[i];
      if (left >= before) chosen = at + i + 1;
    }
    scratch.token = source.Id(chosen);
  }
  __syncthreads();
  return scratch.token;
}

}  // namespace trireme::cuda
