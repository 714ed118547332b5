// The forward pass of decoder-only transformers, on any backend, for any DecoderSpec.
//
//   x = embedding(tokens)                     x: [tokens, hidden], the residual stream
//   for every layer
//     h = norm(x);  q, k, v = Wqkv h;  x += Wout attention(rope(q), rope(k), v)
//     h = norm(x);  g, u = Wgate_up h;  x += Wdown (act(g) * u)
//   logits = Whead norm(x)                    only of the tokens that are asked for
//
// (Llama, Touvron et al., 2023.) Additions to x are done by the norm that follows them.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/backend/backend.h"
#include "runtime/model/decoder_spec.h"
#include "runtime/model/kv_storage.h"
#include "runtime/model/shard.h"
#include "runtime/model/weight_loader.h"
#include "runtime/weights/checkpoint.h"

namespace trireme {

struct DecoderLimits {
  int max_step_tokens = 512;   // in one Forward
  int max_logit_tokens = 512;  // of these, those whose logits are wanted
};

// One rank's part of a model. Weights are immutable after Load; Forward works in memory that the
// decoder owns, and so belongs to one thread, the backend's.
class Decoder {
 public:
  // Checks every tensor against the spec and prepares the shard's part of it. INVALID_ARGUMENT
  // names a tensor that is missing, of another shape, or has no place in the model; DATA_LOSS when
  // the file changes underneath; errors of the backend pass on. The checkpoint is not needed
  // afterwards; `backend` must outlive the decoder.
  static absl::StatusOr<std::unique_ptr<Decoder>> Load(const Shard& shard,
                                                       const Checkpoint& checkpoint,
                                                       Backend& backend,
                                                       const DecoderLimits& limits,
                                                       const LoadProgress& progress);

  // What Load checks of the tensors, without reading a weight.
  static absl::Status CheckTensors(const DecoderSpec& spec, const Checkpoint& checkpoint);

  // Computes the batch, writing K and V of its tokens to `kv`, storage for the shard's heads.
  // logits: F32 [max_logit_tokens, vocab_size], row i of token batch.logit_tokens[i]; rows beyond
  // may be overwritten; data is null on other ranks than the first. The batch is within the limits,
  // has at least one token, and its ids are below vocab_size. Enqueued on the backend; the result
  // is there after Synchronize. Values are not looked at: NaN goes through.
  void Forward(const BatchView& batch, const KvStorage& kv, Backend& backend, Tensor logits) const;

  const DecoderSpec& spec() const { return spec_; }  // of the whole model
  const Shard& shard() const { return shard_; }
  const DecoderLimits& limits() const { return limits_; }
  size_t weight_bytes() const;
  // Of the memory that Forward works in, with activations of `dtype`. `spec`: Shard::local.
  static size_t WorkspaceBytes(const DecoderSpec& spec, const DecoderLimits& limits, DType dtype);

 private:
  struct Layer {
    std::unique_ptr<Weight> attention_norm, qkv, out;
    std::unique_ptr<Weight> mlp_norm, gate_up, down;
  };
  // Activations of one step, rows = max_step_tokens (logit_*: max_logit_tokens).
  struct Workspace {
    Tensor x, h, qkv, attention, attention_delta, gate_up, mlp, mlp_delta;
    Tensor logit_x, logit_delta, logit_h;
  };

  Decoder(const Shard& shard, const DecoderLimits& limits);
  absl::Status LoadWeights(WeightLoader loader);
  absl::StatusOr<Layer> LoadLayer(int layer, WeightLoader& loader) const;
  absl::Status PrepareRope(Backend& backend);
  absl::Status AllocateWorkspace(Backend& backend);
  // Up to the last layer, whose MLP's share is left in workspace_.mlp_delta. When nothing comes
  // behind it (no logits are wanted), no further than to its keys and values.
  void Layers(int num_tokens, bool keys_only, const KvStorage& kv, Backend& backend) const;
  void Head(int num_logits, Backend& backend, Tensor logits) const;
  // Lays the matrices out from `memory` on (null: nowhere, to learn the size); returns the bytes
  // used.
  static size_t Carve(const DecoderSpec& spec, const DecoderLimits& limits, DType dtype,
                      uint8_t* memory, Workspace* workspace);

  // Constant after Load.
  const Shard shard_;
  const DecoderSpec& spec_ = shard_.model;
  const DecoderLimits limits_;
  std::unique_ptr<Weight> embedding_, final_norm_, rope_;
  std::unique_ptr<Weight> lm_head_;  // null when tied: the embedding serves
  std::vector<Layer> layers_;
  std::unique_ptr<Buffer> workspace_memory_;
  Workspace workspace_;
};

}  // namespace trireme
