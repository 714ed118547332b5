// Llama 1 to 3.x and everything published in its shape (SmolLM, TinyLlama, Yi ...), and Mistral,
// which adds a sliding window. Sources: Transformers' LlamaConfig and MistralConfig; llama.cpp's
// GGUF keys of architecture "llama".
#include "runtime/base/strings.h"
#include "runtime/model/family.h"
#include "runtime/model/field_reader.h"
#include "runtime/model/rope.h"

namespace trireme {
namespace {

// What LlamaConfig and MistralConfig share.
DecoderSpec ReadCommonConfig(const boost::json::object& config, FieldReader* fields) {
  DecoderSpec spec;
  spec.architecture = "llama";
  spec.num_layers = fields->Size("num_hidden_layers", kMaxLayers);
  spec.hidden_size = fields->Size("hidden_size", kMaxHiddenSize);
  spec.num_heads = fields->Size("num_attention_heads", kMaxHeads);
  spec.num_kv_heads = fields->Size("num_key_value_heads", spec.num_heads, spec.num_heads);
  spec.head_dim = fields->Has("head_dim") ? fields->Size("head_dim", kMaxHeadDim)
                                          : DerivedHeadDim(spec, "head_dim", fields);
  spec.mlp_size = fields->Size("intermediate_size", kMaxMlpSize);
  spec.vocab_size = fields->Size("vocab_size", kMaxVocabSize);
  spec.max_context = fields->Size("max_position_embeddings", kMaxContext);
  spec.norm_eps = static_cast<float>(fields->Positive("rms_norm_eps", 1e-6));
  spec.rope = ReadRopeFromConfig(config, fields);
  spec.tied_embeddings = fields->Bool("tie_word_embeddings", false);
  spec.activation = ReadActivation("hidden_act", fields);
  spec.names = HuggingFaceNames();
  fields->Unsupported("partial_rotary_factor", 1.0);
  fields->Unsupported("quantization_config");
  return spec;
}

absl::StatusOr<DecoderSpec> LlamaFromConfig(const boost::json::object& config) {
  const JsonFields source(config);
  FieldReader fields(source);
  DecoderSpec spec = ReadCommonConfig(config, &fields);
  spec.qkv_bias = spec.out_bias = fields.Bool("attention_bias", false);
  spec.mlp_bias = fields.Bool("mlp_bias", false);
  if (!fields.status().ok()) return fields.status();
  return spec;
}

absl::StatusOr<DecoderSpec> MistralFromConfig(const boost::json::object& config) {
  const JsonFields source(config);
  FieldReader fields(source);
  DecoderSpec spec = ReadCommonConfig(config, &fields);
  // Transformers' defaults for these two have changed over time, and every published file has them.
  if (!fields.Has("num_key_value_heads")) fields.Fail("num_key_value_heads", "missing");
  if (!config.contains("sliding_window")) fields.Fail("sliding_window", "missing (null: none)");
  spec.sliding_window = fields.Size("sliding_window", kMaxContext, 0);
  if (!fields.status().ok()) return fields.status();
  return spec;
}

// Whether a bias is there; of several, all or none.
bool HasBias(const GgufFile& file, std::initializer_list<std::string_view> names,
             FieldReader* fields) {
  size_t found = 0;
  for (const std::string_view name : names) found += file.Find(name).ok() ? 1 : 0;
  if (found != 0 && found != names.size()) {
    fields->Fail(absl::InvalidArgumentError(
        StrCat("tensor ", *names.begin(), ": some of its sibling biases are missing")));
  }
  return found != 0;
}

absl::StatusOr<DecoderSpec> LlamaFromGguf(const GgufFile& file) {
  const GgufFields source(file, "llama");
  FieldReader fields(source, "llama.");
  DecoderSpec spec;
  spec.architecture = "llama";
  spec.num_layers = fields.Size("block_count", kMaxLayers);
  spec.hidden_size = fields.Size("embedding_length", kMaxHiddenSize);
  spec.num_heads = fields.Size("attention.head_count", kMaxHeads);
  spec.num_kv_heads = fields.Size("attention.head_count_kv", spec.num_heads, spec.num_heads);
  spec.head_dim = fields.Has("attention.key_length")
                      ? fields.Size("attention.key_length", kMaxHeadDim)
                      : DerivedHeadDim(spec, "attention.key_length", &fields);
  if (fields.Size("attention.value_length", kMaxHeadDim, spec.head_dim) != spec.head_dim) {
    fields.Fail("attention.value_length", "differs from attention.key_length: not supported");
  }
  spec.mlp_size = fields.Size("feed_forward_length", kMaxMlpSize);
  spec.max_context = fields.Size("context_length", kMaxContext);
  spec.norm_eps = static_cast<float>(fields.Positive("attention.layer_norm_rms_epsilon"));
  spec.sliding_window = fields.Size("attention.sliding_window", kMaxContext, 0, /*min=*/0);
  spec.rope = ReadRopeFromGguf(file, spec.head_dim, &fields);
  fields.Unsupported("expert_count", 0.0);
  for (const char* key : {"logit_scale", "residual_scale", "embedding_scale", "attention.scale"}) {
    fields.Unsupported(key, 1.0);
  }
  spec.names = GgufNames();
  const absl::StatusOr<TensorView> embedding = file.Find(spec.names.embedding);
  if (!embedding.ok() || embedding->rows() > kMaxVocabSize) {
    return absl::InvalidArgumentError("tensor token_embd.weight is missing or too large");
  }
  spec.vocab_size = static_cast<int>(embedding->rows());
  spec.tied_embeddings = !file.Find(spec.names.lm_head).ok();
  spec.qkv_bias =
      HasBias(file, {"blk.0.attn_q.bias", "blk.0.attn_k.bias", "blk.0.attn_v.bias"}, &fields);
  spec.out_bias = HasBias(file, {"blk.0.attn_output.bias"}, &fields);
  spec.mlp_bias =
      HasBias(file, {"blk.0.ffn_gate.bias", "blk.0.ffn_up.bias", "blk.0.ffn_down.bias"}, &fields);
  if (!fields.status().ok()) return fields.status();
  return spec;
}

}  // namespace

const ModelFamily kLlamaFamily = {"LlamaForCausalLM", LlamaFromConfig, "llama", LlamaFromGguf};
const ModelFamily kMistralFamily = {"MistralForCausalLM", MistralFromConfig, "", nullptr};

}  // namespace trireme
