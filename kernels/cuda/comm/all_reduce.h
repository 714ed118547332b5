// All-reduce between the devices of a node that reach each other's memory, fused with the residual
// add and the norm that follow (AddRmsNorm of fused/rows.h). One-shot: every rank reads all of
// every peer's. Two-shot: a rank sums its share of the columns, then all read the shares. Both sum
// in the order of ranks in F32 and round once to `type`: all ranks get the same bits, and a row has
// the same ones by either way and whatever rows are beside it. So the choice by size keeps batch
// invariance. The barrier between ranks is that of vLLM's custom all-reduce: a flag for each pair
// of CTAs, stored with release and loaded with acquire semantics at system scope.
//
// Why nobody reads what is not there yet, or is overwritten while he reads. Each CTA counts its
// calls (epochs) in its own rank's memory. CTA b of a rank, at a call, tells CTA b of all ranks its
// epoch and waits for theirs: from there on their messages are complete. Who has met a peer at
// call k + 1 knows that the peer's call k has ended, as a stream runs one after the other. Hence
// `in` of call k is free when call k + 1 has returned in the stream (two buffers in turn are
// enough), and `shares`, which a call writes behind its first meeting, is free by then. A flag
// holds an epoch and is never reset: a rank that is ahead by a call is no harm to one that still
// waits.
#pragma once

#include "kernels/cuda/batch.h"

namespace trireme::cuda {

inline constexpr int kMaxPeers = 8;
inline constexpr int kAllReduceCtas = 48;
// Flags of a rank: an epoch for each CTA, then for each CTA what each peer has reached. uint32_t;
// zeros at start, on all ranks before the first call of any.
inline constexpr int kAllReduceFlags = kAllReduceCtas * (1 + 2 * kMaxPeers);

// The group as one rank sees it: pointers to memory of every rank, by rank, that are valid on this
// rank's device. Whoever owns the ranks allocates them and hands them around; with ranks that are
// threads of a process, after cudaDeviceEnablePeerAccess between all of them, they are
// cudaMalloc's.
struct Peers {
  int rank = 0, world = 1;  // world: 1 to kMaxPeers
  // What is to be summed up, [rows, cols] of `type`, 16-byte aligned. Consecutive calls use
  // different ones, two in turn, across rounds of a graph, too: capture an even number of calls.
  const void* in[kMaxPeers] = {};
  void* shares[kMaxPeers] = {};     // as large, for two-shot; the same in every call
  uint32_t* flags[kMaxPeers] = {};  // [kAllReduceFlags]
  // In memory that the host can write, or null: once it is not zero nobody waits any longer,
  // results are unspecified, and the group is of no use any more. For the watchdog.
  const uint32_t* abort = nullptr;
};

// Whether reading everything from everyone is faster: world 2, up to 4 ranks under 512 KB, up to 8
// under 256 KB. `bytes`: of the message. The thresholds are those of vLLM's custom all-reduce.
bool UsesOneShot(int world, int64_t bytes);

// x += sum of the ranks' `in`; y = norm of x. x: [rows, cols] F32, gain: [cols] F32, y: [rows,
// cols] of `type`; these are the rank's own. Every rank calls it with the same type, one_shot, rows
// and cols, in the same order; no rows: nothing is done, and it does not count as a call. cols: a
// multiple of 8, at most kMaxNormCols.
//
// It can be captured. It is a cooperative launch of up to kAllReduceCtas CTAs, and waits on the
// device for its peers: each device runs one call of the group at a time, and the host must not
// wait for one rank's before it has enqueued the others', nor allocate or free device memory in
// between (that may wait for every device, as NCCL's manual warns of its own collectives).
// cudaErrorInvalidValue: another type; cudaErrorCooperativeLaunchTooLarge: the device holds fewer
// CTAs.
cudaError_t AllReduceAddRmsNorm(DType type, const Peers& peers, bool one_shot, float* x,
                                const float* gain, float eps, int64_t rows, int64_t cols, void* y,
                                cudaStream_t stream);

}  // namespace trireme::cuda
