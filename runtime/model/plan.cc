#include "runtime/model/plan.h"

#include <algorithm>
#include <limits>

#include "runtime/base/strings.h"

namespace trireme {
namespace {

struct Counts {
  int64_t matrix = 0;  // elements of matrices
  int64_t vector = 0;  // of norm gains and biases
};

Counts Count(const DecoderSpec& spec) {
  const int64_t hidden = spec.hidden_size, mlp = spec.mlp_size, layers = spec.num_layers;
  const int64_t tables = spec.tied_embeddings ? 1 : 2;
  Counts counts;
  counts.matrix = layers * (hidden * (spec.qkv_size() + spec.q_size()) + 3 * hidden * mlp) +
                  tables * hidden * spec.vocab_size;
  const int64_t biases = (spec.qkv_bias ? spec.qkv_size() : 0) + (spec.out_bias ? hidden : 0) +
                         (spec.mlp_bias ? 2 * mlp + hidden : 0);
  counts.vector = layers * (2 * hidden + biases) + hidden;
  return counts;
}

}  // namespace

int64_t CountParameters(const DecoderSpec& spec) {
  const Counts counts = Count(spec);
  return counts.matrix + counts.vector;
}

int64_t WeightBytes(const DecoderSpec& spec, DType dtype) {
  const Counts counts = Count(spec);
  return RowBytes(dtype, counts.matrix) + RowBytes(DType::kF32, counts.vector);
}

absl::StatusOr<MemoryPlan> PlanMemory(const DecoderSpec& spec, const PlanOptions& options) {
  MemoryPlan plan;
  plan.weight_bytes = options.weight_bytes;
  plan.workspace_bytes =
      static_cast<int64_t>(Decoder::WorkspaceBytes(spec, options.limits, options.activation_dtype));
  plan.logits_bytes =
      int64_t{options.limits.max_logit_tokens} * RowBytes(DType::kF32, spec.vocab_size);
  plan.kv_block_bytes = KvShape::Of(spec, options.block_size, options.kv_dtype).block_bytes();
  const int64_t fixed = plan.weight_bytes + plan.workspace_bytes + plan.logits_bytes;
  const int64_t left = options.memory_bytes - fixed;
  if (left < plan.kv_block_bytes) {
    return absl::ResourceExhaustedError(
        StrCat("the model needs ", fixed + plan.kv_block_bytes, " bytes (", plan.weight_bytes,
               " of them weights) before it can hold ", options.block_size, " tokens; ",
               options.memory_bytes, " are allowed"));
  }
  plan.num_blocks = static_cast<int>(
      std::min<int64_t>(left / plan.kv_block_bytes, std::numeric_limits<BlockId>::max()));
  plan.kv_tokens = int64_t{plan.num_blocks} * options.block_size;
  const int64_t blocks_per_context =
      (int64_t{spec.max_context} + options.block_size - 1) / options.block_size;
  plan.full_contexts = plan.num_blocks / blocks_per_context;
  return plan;
}

}  // namespace trireme
