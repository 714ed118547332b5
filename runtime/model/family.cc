#include "runtime/model/family.h"

#include "runtime/base/strings.h"

namespace trireme {

DecoderSpec::Names HuggingFaceNames() {
  DecoderSpec::Names names;
  names.embedding = "model.embed_tokens.weight";
  names.final_norm = "model.norm.weight";
  names.lm_head = "lm_head.weight";
  names.attention_norm = "model.layers.{}.input_layernorm.weight";
  names.q = "model.layers.{}.self_attn.q_proj.weight";
  names.k = "model.layers.{}.self_attn.k_proj.weight";
  names.v = "model.layers.{}.self_attn.v_proj.weight";
  names.out = "model.layers.{}.self_attn.o_proj.weight";
  names.mlp_norm = "model.layers.{}.post_attention_layernorm.weight";
  names.gate = "model.layers.{}.mlp.gate_proj.weight";
  names.up = "model.layers.{}.mlp.up_proj.weight";
  names.down = "model.layers.{}.mlp.down_proj.weight";
  names.unused_suffixes = {".rotary_emb.inv_freq"};  // old exports; computed from the config
  return names;
}

DecoderSpec::Names GgufNames() {
  DecoderSpec::Names names;
  names.embedding = "token_embd.weight";
  names.final_norm = "output_norm.weight";
  names.lm_head = "output.weight";
  names.attention_norm = "blk.{}.attn_norm.weight";
  names.q = "blk.{}.attn_q.weight";
  names.k = "blk.{}.attn_k.weight";
  names.v = "blk.{}.attn_v.weight";
  names.out = "blk.{}.attn_output.weight";
  names.mlp_norm = "blk.{}.ffn_norm.weight";
  names.gate = "blk.{}.ffn_gate.weight";
  names.up = "blk.{}.ffn_up.weight";
  names.down = "blk.{}.ffn_down.weight";
  names.unused_suffixes = {"rope_freqs.weight", ".attn_rot_embd"};  // read into RopeSpec; old files
  return names;
}

Activation ReadActivation(std::string_view key, FieldReader* fields) {
  const std::string name = fields->String(key, "silu");
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return Activation::kGeluTanh;
  if (name == "gelu") return Activation::kGelu;
  fields->Fail(key, StrCat(Printable(name), " is not supported"));
  return Activation::kSilu;
}

int DerivedHeadDim(const DecoderSpec& spec, std::string_view key, FieldReader* fields) {
  if (spec.hidden_size % spec.num_heads != 0) {
    fields->Fail(key, "missing, and the hidden size is not a multiple of the number of heads");
  }
  return spec.hidden_size / spec.num_heads;
}

}  // namespace trireme
