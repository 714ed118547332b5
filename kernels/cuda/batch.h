// What the kernels of a step share. Every launch function of kernels/cuda is asynchronous on its
// stream, takes device pointers unless it says otherwise, and returns what the launch returned;
// what a kernel does wrong while it runs is seen at the next synchronisation, as always in CUDA.
// Sizes were checked at load: a launch function CHECKs nothing and allocates nothing, so that it
// can be captured into a graph.
//
// `type` is kBF16 or kF16: that of activations, of plain weights and of the KV cache, one for a
// model, so that the matrix units take all of them. The residual stream and the logits are F32.
// Accumulation is in F32 everywhere; a result is rounded to `type` once, to nearest even.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/ops.h"

namespace trireme::cuda {

// The batch of a step. A token at position -1 pads the batch to the size that a graph was captured
// with: nothing is stored for it, and what is computed in its row is not looked at.
struct Batch {
  int num_tokens = 0;
  const int32_t* tokens = nullptr;        // [num_tokens] ids
  const int32_t* positions = nullptr;     // [num_tokens] in their sequences
  const int32_t* sequence_of = nullptr;   // [num_tokens] rows of block_tables
  const int32_t* block_tables = nullptr;  // [num_sequences, table_stride] block ids
  int table_stride = 0;
};

// A block of a layer's paged KV cache (KvLayerView of kernels/ops.h) is [num_kv_heads, block_size,
// head_dim] here, for K as for V; dtype is `type`. At most 2^32 - 1 rows of head_dim lie from the
// first block to the end of the last.

}  // namespace trireme::cuda
