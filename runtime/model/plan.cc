#include "runtime/model/plan.h"

#include <algorithm>
#include <string>

namespace trireme {
namespace {

// Whether the checkpoint may have this tensor, and the model does not use it.
bool IsUnused(const DecoderSpec& spec, const std::string& name) {
  const auto& suffixes = spec.names.unused_suffixes;
  return (spec.tied_embeddings && name == spec.names.lm_head) ||
         std::any_of(suffixes.begin(), suffixes.end(),
                     [&](const std::string& suffix) { return name.ends_with(suffix); });
}

}  // namespace

int64_t CountParameters(const DecoderSpec& spec) {
  const int64_t hidden = spec.hidden_size, mlp = spec.mlp_size, layers = spec.num_layers;
  const int64_t tables = spec.tied_embeddings ? 1 : 2;
  const int64_t biases = (spec.qkv_bias ? spec.qkv_size() : 0) + (spec.out_bias ? hidden : 0) +
                         (spec.mlp_bias ? 2 * mlp + hidden : 0);
  const int64_t matrices = layers * (hidden * (spec.qkv_size() + spec.q_size()) + 3 * hidden * mlp);
  const int64_t vectors = layers * (2 * hidden + biases) + hidden;
  return matrices + vectors + tables * hidden * spec.vocab_size;
}

int64_t DecodeWeightBytes(const DecoderSpec& spec, const Checkpoint& checkpoint) {
  int64_t sum = 0;
  for (const std::string& name : checkpoint.Names()) {
    const auto tensor = checkpoint.Find(name);
    if (!tensor.ok() || IsUnused(spec, name)) continue;
    const bool one_row = name == spec.names.embedding && !spec.tied_embeddings;
    sum += one_row ? RowBytes(tensor->dtype, tensor->cols()) : tensor->size_bytes();
  }
  return sum;
}

int64_t DecodeKvBytes(const DecoderSpec& spec, const KvShape& kv, int64_t num_tokens) {
  if (spec.sliding_window > 0) num_tokens = std::min<int64_t>(num_tokens, spec.sliding_window);
  return num_tokens * (kv.block_bytes() / kv.block_size);
}

}  // namespace trireme
