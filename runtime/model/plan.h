// How a model fits into memory: plain arithmetic, for `trireme inspect` and for sizing the KV cache
// at start.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/model/decoder.h"
#include "runtime/model/decoder_spec.h"
#include "runtime/model/kv_storage.h"

namespace trireme {

struct PlanOptions {
  int64_t memory_bytes = 0;  // for weights, activations, logits and KV cache together
  int64_t weight_bytes = 0;  // Checkpoint::size_bytes, or WeightBytes
  DecoderLimits limits;
  int block_size = 16;
  DType kv_dtype = DType::kF16;
  DType activation_dtype = DType::kF32;
};

struct MemoryPlan {
  int64_t weight_bytes = 0;
  int64_t workspace_bytes = 0;  // activations
  int64_t logits_bytes = 0;     // F32, max_logit_tokens rows
  int64_t kv_block_bytes = 0;
  int num_blocks = 0;
  int64_t kv_tokens = 0;      // num_blocks * block_size
  int64_t full_contexts = 0;  // sequences of max_context tokens that fit at the same time
};

// Weights of the model, tied ones once.
int64_t CountParameters(const DecoderSpec& spec);

// Bytes of the weights when all matrices are of `dtype` and all vectors F32.
int64_t WeightBytes(const DecoderSpec& spec, DType dtype);

// RESOURCE_EXHAUSTED says how many bytes are missing when not even one KV block fits.
absl::StatusOr<MemoryPlan> PlanMemory(const DecoderSpec& spec, const PlanOptions& options);

}  // namespace trireme
