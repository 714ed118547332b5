// Mistakes that tests make the attention kernel have: each must be caught.
#pragma once

namespace trireme::cuda {

// What is wrong with the kernel, on purpose (tests/kernels/cuda/attention_mutants). The product has
// kNone alone.
enum class AttentionMutant {
  kNone,
  kNoBarrierForKeys,    // other warps' copies may not have landed
  kNoBarrierForValues,  // nor here; and the next keys land where others still read
  kLaxWaitForKeys,      // wait_group leaves the tile in flight
  kLaxWaitForValues,
  kNoCommitOfValues,       // the counts of groups are off by one
  kWrongStageStride,       // the second stage overlaps the first
  kNoBarrierBetweenItems,  // the next queries land where others still read
  kNoWarpBarrier,          // lanes read what their neighbours just wrote
  kNoSwizzle,
  kNoZeroFill,    // what lies behind the context is read
  kStaleLookUp,   // a tile's keys are those of the tile before
  kMaskOffByOne,  // each token sees the next one
  kWindowOffByOne,
  kNoMaskOnWindow,  // edge tiles are masked on the causal side alone
  kSeesTooLittle,   // a tile of which only the first key is seen is left out
  kNoRescale,       // O and the sum keep their old maximum
  kNoBaseGuard,     // -inf - -inf where a row has seen nothing yet
  kHalfSum,         // a row's sum over two of its four lanes
  kForgetsChunks,   // only the last chunk counts
  kKeepsMax,        // a chunk starts with the maximum of the one before: right, but other bits
  kSinkTwice,
  kNoRowBound,         // rows behind the last are written
  kPartialWithoutMax,  // of a chunk
  // Of the Hopper kernel only:
  kNoWaitForSlot,        // copies land where a warpgroup still reads
  kWrongParity,          // of the wait for keys
  kNoWaitForValues,      // they may not have landed
  kPublishesEarly,       // copies are still under way
  kNoProxyFence,         // wgmma does not see what was copied
  kNoQueryBarrier,       // other warps' queries may not have landed
  kNoWgmmaFence,         // O may not be rescaled yet when wgmma adds to it
  kNoWaitForScores,      // they are read while wgmma writes them
  kReleasesValuesEarly,  // wgmma may still read them
};

}  // namespace trireme::cuda
