// Operator contracts: shapes, types, aliasing, rounding. Every implementation (reference/ in double
// precision, cpu/, later cuda/) computes these. Kernels know pointers, sizes and nothing else;
// validation happened at load or at the request's door, so a kernel never returns an error.
//
// Batch invariance, for all of them: the result of a token depends on that token's own inputs only.
// The reduction over K, over the head dimension and over KV positions has one order, whatever the
// number of rows in the call and however the work is split between threads; KV is walked in tiles
// of fixed size from position 0.
#pragma once

#include <cstdint>

#include "runtime/base/dtype.h"

namespace trireme {

// RMSNorm (Zhang and Sennrich, 2019): y = x / sqrt(mean(x^2) + eps) * gain. x, y: [n]; y may be x.
//
// AddRmsNorm: x += delta first. x is read and written.

// Rotary embedding (Su et al., 2021). Position p, pair i of `rotary_dim / 2` pairs: angle = p *
// inverse_frequency[i]; (a, b) -> (a cos - b sin, a sin + b cos) * magnitude. Halves: a = x[i], b =
// x[i + rotary_dim/2] (Hugging Face order). Interleaved: a = x[2i], b = x[2i+1] (original Llama
// order, which GGUF keeps for llama models).
struct RopeTable {
  int rotary_dim = 0;  // even, <= head_dim; 0: no rotary embedding
  bool interleaved = false;
  const float* inverse_frequency =
      nullptr;             // [rotary_dim / 2], scaling (linear, llama3, YaRN) already applied
  float magnitude = 1.0f;  // YaRN's attention factor
};

// One layer's paged KV storage of `dtype` (F32, F16, BF16). The blocks' shares of the layer are
// block_stride apart: what a block has in all layers lies together (KvStorage).
//   k, a block: [num_kv_heads, head_dim, block_size]: keys lie transposed, so that the scores of
//      consecutive positions are computed side by side and each is one chain of additions over
//      head_dim
//   v, a block: [num_kv_heads, block_size, head_dim]
// On CUDA k lies as v does (kernels/cuda/batch.h). Slots that hold no token yet may contain
// anything, NaN included.
struct KvLayerView {
  void* k = nullptr;
  void* v = nullptr;
  DType dtype = DType::kF16;
  int num_kv_heads = 0;
  int block_size = 16;
  int head_dim = 0;
  // Elements from a block to the next, in k as in v; at least num_kv_heads * block_size * head_dim,
  // and a multiple of head_dim.
  int64_t block_stride = 0;

  bool HasValidStride() const {
    return block_stride >= int64_t{num_kv_heads} * block_size * head_dim &&
           block_stride % head_dim == 0;
  }
};

// Attention of query tokens of ONE sequence over its paged KV (PagedAttention, Kwon et al., 2023),
// softmax computed online over KV tiles (FlashAttention, Dao et al., 2022). Causal: query at
// position p sees [max(0, p - window + 1), p].
//   q:   [num_tokens, num_heads, head_dim], row stride q_stride elements; head h reads KV head h /
//   (num_heads/kv_heads) out: [num_tokens, num_heads, head_dim], row stride out_stride. No alias
//   with q.
struct AttentionParams {
  int num_heads = 0;
  float scale = 1.0f;            // multiplies q.k, usually 1/sqrt(head_dim)
  int window = 0;                // 0: unlimited
  float soft_cap = 0.0f;         // 0: none; else s = cap * tanh(s / cap)
  const float* sinks = nullptr;  // [num_heads] virtual logits, or null
};

enum class Activation : uint8_t { kSilu, kGeluTanh, kGelu };
// GatedActivation: out[i] = act(gate[i]) * up[i].

}  // namespace trireme
