// All-reduce between the devices of a node that reach each other's memory, fused with the residual
// add and the norm that follow (AddRmsNorm of fused/rows.h). One-shot: every rank reads all of
// every peer's. Two-shot: a rank sums its share of the columns, then all read the shares. Both sum
// in the order of ranks in F32 and round once to `type`: all ranks get the same bits, and a row has
// the same ones by either way, so the choice by size keeps batch invariance.
#pragma once

#include "kernels/cuda/batch.h"

namespace trireme::cuda {

inline constexpr int kMaxPeers = 8;
inline constexpr int kAllReduceCtas = 48;
// Flags of a rank: an epoch for each CTA, then for each CTA what each peer has reached. uint32_t;
// zeros at start.
inline constexpr int kAllReduceFlags = kAllReduceCtas * (1 + 2 * kMaxPeers);

// As one rank sees the group. Pointers to memory of every rank, valid on this rank's device.
struct Peers {
  int rank = 0, world = 1;
  // Exchange buffers, [rows, cols] of `type`, 16-byte aligned: what is to be summed up. Consecutive
  // calls use different ones, two in turn: a rank may write to a buffer again as soon as the call
  // after the one that read it has returned in its stream.
  const void* in[kMaxPeers] = {};
  void* shares[kMaxPeers] = {};     // as large, for two-shot; the same in every call
  uint32_t* flags[kMaxPeers] = {};  // [kAllReduceFlags]
  // In memory that the host can write, or null: once it is not zero nobody waits any longer, and
  // results are unspecified. For the watchdog.
  const uint32_t* abort = nullptr;
};

// Whether reading everything from everyone is faster: world 2, up to 4 ranks under 512 KB, up to 8
// under 256 KB. `bytes`: of the message.
bool UsesOneShot(int world, int64_t bytes);

// x += sum of the ranks' `in`; y = norm of x. Every rank calls it with the same sizes, in the same
// order. cols: a multiple of 8, at most kMaxNormCols. Cooperative: it needs kAllReduceCtas CTAs at
// the same time.
cudaError_t AllReduceAddRmsNorm(DType type, const Peers& peers, bool one_shot, float* x,
                                const float* gain, float eps, int64_t rows, int64_t cols, void* y,
                                cudaStream_t stream);

}  // namespace trireme::cuda
