// What a decoder-only transformer is made of. Data, not code: one Decoder (decoder.h) runs every spec; a family file
// (families/*.cc) fills one from config.json or GGUF keys.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/gguf.h"

namespace trireme {

struct RopeSpec {
  double theta = 10000.0;
  int rotary_dim = 0;           // 0: head_dim
  bool interleaved = false;     // GGUF keeps Llama's original pair order
  enum class Scaling { kNone, kLinear, kLlama3 } scaling = Scaling::kNone;
  double factor = 1.0;                            // linear, llama3
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  int64_t original_context = 8192;                // llama3
  std::vector<float> frequency_divisors;          // GGUF rope_freqs.weight, [rotary_dim / 2] or empty
};

struct DecoderSpec {
  std::string architecture;      // "llama"
  int num_layers = 0;
  int hidden_size = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int mlp_size = 0;
  int vocab_size = 0;            // rows of the embedding: logits width
  int max_context = 0;           // trained context length
  float norm_eps = 1e-5f;
  RopeSpec rope;
  bool tied_embeddings = false;
  bool qkv_bias = false, out_bias = false, mlp_bias = false;
  Activation activation = Activation::kSilu;
  float attention_scale = 0.0f;  // 0: 1/sqrt(head_dim)
  int sliding_window = 0;        // 0: none
  float attention_soft_cap = 0.0f, logit_soft_cap = 0.0f;
  float embedding_scale = 1.0f, residual_scale = 1.0f, logit_scale = 1.0f;

  // Names of the tensors in the checkpoint; "{}" stands for the layer number.
  struct Names {
    std::string embedding, final_norm, lm_head;
    std::string attention_norm, q, k, v, out, mlp_norm, gate, up, down;
  } names;
};

// INVALID_ARGUMENT names the field. Every product of sizes is checked.
absl::StatusOr<DecoderSpec> DecoderSpecFromConfigJson(std::string_view config_json);
absl::StatusOr<DecoderSpec> DecoderSpecFromGguf(const GgufFile& file);

}  // namespace trireme
