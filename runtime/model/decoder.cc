#include "runtime/model/decoder.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_replace.h"
#include "runtime/base/check.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/model/rope.h"

namespace trireme {
namespace {

// Of every activation matrix: two cache lines, a GPU's unit of transfer.
constexpr size_t kAlignment = 128;

std::string LayerName(const std::string& pattern, int layer) {
  return absl::StrReplaceAll(pattern, {{"{}", StrCat(layer)}});
}

using Bias = WeightLoader::Bias;

// The first rows of a matrix.
Tensor Rows(Tensor t, int rows) {
  TRIREME_DCHECK(rows <= t.rows);
  t.rows = rows;
  return t;
}

}  // namespace

Decoder::Decoder(const Shard& shard, const DecoderLimits& limits)
    : shard_(shard), limits_(limits) {}

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Load(const Shard& shard,
                                                       const Checkpoint& checkpoint,
                                                       Backend& backend,
                                                       const DecoderLimits& limits,
                                                       const LoadProgress& progress) {
  TRIREME_CHECK(limits.max_step_tokens > 0 && limits.max_logit_tokens > 0);
  std::unique_ptr<Decoder> decoder(new Decoder(shard, limits));
  TRIREME_RETURN_IF_ERROR(decoder->LoadWeights(WeightLoader(checkpoint, &backend, progress)));
  TRIREME_RETURN_IF_ERROR(decoder->PrepareRope(backend));
  TRIREME_RETURN_IF_ERROR(decoder->AllocateWorkspace(backend));
  return decoder;
}

absl::Status Decoder::CheckTensors(const DecoderSpec& spec, const Checkpoint& checkpoint) {
  const LoadProgress no_progress;
  return Decoder(spec, DecoderLimits{}).LoadWeights(WeightLoader(checkpoint, nullptr, no_progress));
}

absl::Status Decoder::LoadWeights(WeightLoader loader) {
  const DecoderSpec::Names& names = spec_.names;
  TRIREME_ASSIGN_OR_RETURN(embedding_,
                           loader.Embedding(names.embedding, shard_.vocab, spec_.hidden_size));
  for (int i = 0; i < spec_.num_layers; ++i) {
    TRIREME_ASSIGN_OR_RETURN(Layer layer, LoadLayer(i, loader));
    layers_.push_back(std::move(layer));
  }
  // The head is linear: scaling what goes in scales the logits.
  TRIREME_ASSIGN_OR_RETURN(final_norm_,
                           loader.Vector(names.final_norm, spec_.hidden_size, spec_.logit_scale));
  std::vector<std::string> unused = names.unused_suffixes;
  if (spec_.tied_embeddings) {
    unused.push_back(names.lm_head);  // some files store the tied matrix twice
  } else {
    TRIREME_ASSIGN_OR_RETURN(
        lm_head_, loader.Matrix({{names.lm_head, shard_.vocab}}, spec_.hidden_size, Bias::kNone));
  }
  return loader.Finish(unused);
}

absl::StatusOr<Decoder::Layer> Decoder::LoadLayer(int i, WeightLoader& loader) const {
  const DecoderSpec::Names& names = spec_.names;
  const int64_t hidden = spec_.hidden_size;
  const auto bias = [](bool has) { return has ? Bias::kAdded : Bias::kNone; };
  // Of a sum that the ranks have shares of.
  const auto shared_bias = [&](bool has) {
    return has && shard_.rank > 0 ? Bias::kElsewhere : bias(has);
  };
  Layer layer;
  TRIREME_ASSIGN_OR_RETURN(layer.attention_norm,
                           loader.Vector(LayerName(names.attention_norm, i), hidden));
  TRIREME_ASSIGN_OR_RETURN(layer.qkv, loader.Matrix({{LayerName(names.q, i), shard_.q},
                                                     {LayerName(names.k, i), shard_.kv},
                                                     {LayerName(names.v, i), shard_.kv}},
                                                    hidden, bias(spec_.qkv_bias)));
  TRIREME_ASSIGN_OR_RETURN(layer.out, loader.Matrix({{LayerName(names.out, i), hidden}}, shard_.q,
                                                    shared_bias(spec_.out_bias)));
  TRIREME_ASSIGN_OR_RETURN(layer.mlp_norm, loader.Vector(LayerName(names.mlp_norm, i), hidden));
  TRIREME_ASSIGN_OR_RETURN(layer.gate_up, loader.Matrix({{LayerName(names.gate, i), shard_.mlp},
                                                         {LayerName(names.up, i), shard_.mlp}},
                                                        hidden, bias(spec_.mlp_bias)));
  TRIREME_ASSIGN_OR_RETURN(layer.down, loader.Matrix({{LayerName(names.down, i), hidden}},
                                                     shard_.mlp, shared_bias(spec_.mlp_bias)));
  return layer;
}

size_t Decoder::Carve(const DecoderSpec& spec, const DecoderLimits& limits, DType dtype,
                      uint8_t* memory, Workspace* w) {
  const struct {
    Tensor* tensor;
    int64_t rows, cols;
    bool residual = false;  // F32 on every device: what is added up over all layers
  } items[] = {
      {&w->x, limits.max_step_tokens, spec.hidden_size, true},
      {&w->h, limits.max_step_tokens, spec.hidden_size},
      {&w->qkv, limits.max_step_tokens, spec.qkv_size()},
      {&w->attention, limits.max_step_tokens, spec.q_size()},
      {&w->attention_delta, limits.max_step_tokens, spec.hidden_size},
      {&w->gate_up, limits.max_step_tokens, 2 * int64_t{spec.mlp_size}},
      {&w->mlp, limits.max_step_tokens, spec.mlp_size},
      {&w->mlp_delta, limits.max_step_tokens, spec.hidden_size},
      {&w->logit_x, limits.max_logit_tokens, spec.hidden_size, true},
      {&w->logit_delta, limits.max_logit_tokens, spec.hidden_size},
      {&w->logit_h, limits.max_logit_tokens, spec.hidden_size},
  };
  size_t used = 0;
  for (const auto& item : items) {
    const DType type = item.residual ? DType::kF32 : dtype;
    *item.tensor = Tensor{memory == nullptr ? nullptr : memory + used, type, item.rows, item.cols};
    const auto size = static_cast<size_t>(item.rows * RowBytes(type, item.cols));
    used += (size + kAlignment - 1) / kAlignment * kAlignment;
  }
  return used;
}

size_t Decoder::WorkspaceBytes(const DecoderSpec& spec, const DecoderLimits& limits, DType dtype) {
  Workspace unused;
  return Carve(spec, limits, dtype, nullptr, &unused);
}

absl::Status Decoder::AllocateWorkspace(Backend& backend) {
  const DType dtype = backend.activation_dtype();
  auto memory = backend.AllocateShared(WorkspaceBytes(shard_.local, limits_, dtype));
  if (!memory.ok()) return Annotate(memory.status(), "activations");
  workspace_memory_ = *std::move(memory);
  Carve(shard_.local, limits_, dtype, static_cast<uint8_t*>(workspace_memory_->data()),
        &workspace_);
  return absl::OkStatus();
}

absl::Status Decoder::PrepareRope(Backend& backend) {
  const std::vector<float> frequencies = InverseFrequencies(spec_.rope, spec_.head_dim);
  const int rotary_dim = spec_.rope.rotary_dim == 0 ? spec_.head_dim : spec_.rope.rotary_dim;
  auto rope = backend.PrepareRope({rotary_dim, spec_.rope.interleaved, frequencies.data()});
  if (!rope.ok()) return Annotate(rope.status(), "rotary table");
  rope_ = *std::move(rope);
  return absl::OkStatus();
}

void Decoder::Forward(const BatchView& batch, const KvStorage& kv, Backend& backend,
                      Tensor logits) const {
  backend.Step(batch, [&](int num_tokens, int num_logits) {
    Layers(num_tokens, /*keys_only=*/num_logits == 0, kv, backend);
    if (num_logits > 0) Head(num_logits, backend, logits);
  });
}

void Decoder::Layers(int num_tokens, bool keys_only, const KvStorage& kv, Backend& backend) const {
  const Workspace& w = workspace_;
  const Tensor x = Rows(w.x, num_tokens), h = Rows(w.h, num_tokens), qkv = Rows(w.qkv, num_tokens);
  const Tensor attention = Rows(w.attention, num_tokens);
  const Tensor gate_up = Rows(w.gate_up, num_tokens), mlp = Rows(w.mlp, num_tokens);
  // Two, in turn: other ranks may still be reading the one while the other is written.
  const Tensor attention_delta = Rows(w.attention_delta, num_tokens);
  const Tensor mlp_delta = Rows(w.mlp_delta, num_tokens);
  AttentionParams params;
  params.num_heads = shard_.local.num_heads;
  params.scale = spec_.attention_scale != 0 ? spec_.attention_scale
                                            : 1.0f / std::sqrt(static_cast<float>(spec_.head_dim));
  params.window = spec_.sliding_window;
  params.soft_cap = spec_.attention_soft_cap;

  backend.Embed(*embedding_, spec_.embedding_scale, x);
  for (int i = 0; i < spec_.num_layers; ++i) {
    const Layer& layer = layers_[static_cast<size_t>(i)];
    if (i == 0) {
      backend.RmsNorm(x, *layer.attention_norm, spec_.norm_eps, h);
    } else {
      backend.AddRmsNorm(x, mlp_delta, *layer.attention_norm, spec_.norm_eps, h);
    }
    backend.MatMul(*layer.qkv, h, qkv);
    backend.RopeAndStoreKv(*rope_, params.num_heads, kv.Layer(i), qkv);
    if (keys_only && i == spec_.num_layers - 1) return;
    backend.Attention(params, kv.Layer(i), qkv, attention);
    backend.MatMul(*layer.out, attention, attention_delta);
    backend.AddRmsNorm(x, attention_delta, *layer.mlp_norm, spec_.norm_eps, h);
    backend.MatMul(*layer.gate_up, h, gate_up);
    backend.GatedActivation(spec_.activation, gate_up, mlp);
    backend.MatMul(*layer.down, mlp, mlp_delta);
  }
}

void Decoder::Head(int num_logits, Backend& backend, Tensor logits) const {
  const Workspace& w = workspace_;
  const Tensor x = Rows(w.logit_x, num_logits), delta = Rows(w.logit_delta, num_logits);
  const Tensor h = Rows(w.logit_h, num_logits);
  backend.GatherLogitRows(w.x, x);
  backend.GatherLogitRows(w.mlp_delta, delta);
  backend.AddRmsNorm(x, delta, *final_norm_, spec_.norm_eps, h);
  backend.Logits(spec_.tied_embeddings ? *embedding_ : *lm_head_, h, Rows(logits, num_logits));
}

size_t Decoder::weight_bytes() const {
  size_t sum = embedding_->size_bytes() + final_norm_->size_bytes();
  if (lm_head_ != nullptr) sum += lm_head_->size_bytes();
  for (const Layer& layer : layers_) {
    for (const auto* weight : {&layer.attention_norm, &layer.qkv, &layer.out, &layer.mlp_norm,
                               &layer.gate_up, &layer.down}) {
      sum += (*weight)->size_bytes();
    }
  }
  return sum;
}

}  // namespace trireme
