// The arithmetic of a row, in one place: prefill, decode and merge give the same bits only because
// they share it. Every rounding is written out, so that no compiler fuses it in one kernel and not
// in another. Exponents are of base 2; -inf is the maximum of a row that has seen nothing.
#pragma once

#include "kernels/cuda/primitives/ptx.cuh"

namespace trireme::cuda {

// Of a maximum: what to subtract, so that -inf - -inf never happens.
__device__ inline float BaseOf(float max) { return max == -INFINITY ? 0.0f : max; }

// How a running state and a chunk's are weighted in their sum.
struct FoldFactors {
  float running, chunk;
};

// Folds a chunk's maximum and sum into the running ones.
__device__ inline FoldFactors Fold(float chunk_max, float chunk_sum, float* max, float* sum) {
  const float most = fmaxf(*max, chunk_max), base = BaseOf(most);
  const FoldFactors factors{ptx::Exp2(__fsub_rn(*max, base)),
                            ptx::Exp2(__fsub_rn(chunk_max, base))};
  *max = most;
  *sum = __fmaf_rn(chunk_sum, factors.chunk, __fmul_rn(*sum, factors.running));
  return factors;
}
__device__ inline float Folded(float running, float chunk, FoldFactors factors) {
  return __fmaf_rn(chunk, factors.chunk, __fmul_rn(running, factors.running));
}

// What a row's running O is multiplied with in the end. A sink is a logit whose value is zero: it
// is added to the sum here, once.
__device__ inline float Finish(float max, float sum, const float* sinks, int head) {
  if (sinks == nullptr) return sum == 0.0f ? 0.0f : __frcp_rn(sum);
  const float sink = __fmul_rn(sinks[head], 1.44269504f);
  const float most = fmaxf(max, sink), base = BaseOf(most);
  const float rescale = ptx::Exp2(__fsub_rn(max, base));
  const float all = __fmaf_rn(sum, rescale, ptx::Exp2(__fsub_rn(sink, base)));
  return all == 0.0f ? 0.0f : __fmul_rn(rescale, __frcp_rn(all));
}
// A zero has no sign, however many empty chunks were folded in.
__device__ inline float Finished(float o, float factor) { return __fmaf_rn(o, factor, 0.0f); }

// tanh to 2^-22 of 1. `x`: twice the argument, as an exponent of 2.
__device__ inline float Tanh(float x) {
  return __fmaf_rn(-2.0f, ptx::Reciprocal(__fadd_rn(ptx::Exp2(x), 1.0f)), 1.0f);
}

}  // namespace trireme::cuda
