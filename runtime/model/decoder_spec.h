// What a decoder-only transformer is made of. Data, not code: one Decoder (decoder.h) runs every
// spec; a family file (families/*.cc) fills one from config.json or GGUF keys.
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
  int rotary_dim = 0;        // 0: head_dim
  bool interleaved = false;  // GGUF keeps Llama's original pair order
  enum class Scaling { kNone, kLinear, kLlama3 } scaling = Scaling::kNone;
  double factor = 1.0;                                   // linear, llama3
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  int64_t original_context = 8192;                       // llama3
  std::vector<float> frequency_divisors;  // GGUF rope_freqs.weight, [rotary_dim / 2] or empty

  bool operator==(const RopeSpec&) const = default;
};

struct DecoderSpec {
  std::string architecture;  // "llama"
  int num_layers = 0;
  int hidden_size = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int mlp_size = 0;
  int vocab_size = 0;   // rows of the embedding: logits width
  int max_context = 0;  // trained context length
  float norm_eps = 1e-5f;
  RopeSpec rope;
  bool tied_embeddings = false;
  bool qkv_bias = false, out_bias = false, mlp_bias = false;
  Activation activation = Activation::kSilu;
  float attention_scale = 0.0f;     // 0: 1/sqrt(head_dim)
  int sliding_window = 0;           // 0: none
  float attention_soft_cap = 0.0f;  // 0: none
  float embedding_scale = 1.0f, logit_scale = 1.0f;

  // Names of the tensors in the checkpoint; "{}" stands for the layer number. A bias is called like
  // its matrix, with "bias" in place of the final "weight".
  struct Names {
    std::string embedding, final_norm, lm_head;
    std::string attention_norm, q, k, v, out, mlp_norm, gate, up, down;
    std::vector<std::string> unused_suffixes;  // of tensors that may be there and mean nothing
  } names;

  // Columns of the outputs of the query, the key (or value) and the fused projection.
  int64_t q_size() const { return int64_t{num_heads} * head_dim; }
  int64_t kv_size() const { return int64_t{num_kv_heads} * head_dim; }
  int64_t qkv_size() const { return q_size() + 2 * kv_size(); }
};

// INVALID_ARGUMENT names the field: missing, malformed, out of range, of an architecture or with a
// feature that is not supported. A field that would change the result is never ignored. The sizes
// of a returned spec are so bounded (family.h) that the bytes of the whole model fit in int64.
absl::StatusOr<DecoderSpec> DecoderSpecFromConfigJson(std::string_view config_json);
absl::StatusOr<DecoderSpec> DecoderSpecFromGguf(const GgufFile& file);

}  // namespace trireme
