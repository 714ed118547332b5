#include "tests/fakes/tiny_model.h"

#include <cstring>

#include "absl/strings/str_replace.h"
#include "runtime/base/check.h"
#include "runtime/base/strings.h"
#include "runtime/model/decoder_spec.h"
#include "runtime/model/rope.h"
#include "tests/fakes/files.h"
#include "tests/fakes/gguf_writer.h"
#include "tests/fakes/safetensors_writer.h"
#include "tests/fakes/tiny_tokenizer.h"

namespace trireme::fakes {
namespace {

// SplitMix64 (Steele, Lea, Flood, 2014), element `index` of the stream that begins at `state`.
uint64_t SplitMix(uint64_t state, uint64_t index) {
  uint64_t z = state + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// FNV-1a: each tensor has its own stream.
uint64_t StreamOf(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u ^ seed;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

struct Named {
  std::string name;  // Hugging Face's
  std::vector<int64_t> shape;
  std::vector<float> values;
};

bool EndsWith(std::string_view text, std::string_view end) { return text.ends_with(end); }

// Uniform in [-1, 1) on a grid of 2^-23, times a power of two: exact. Gains are around 1.
Named MakeTensor(const TinyModel& model, const std::string& name, std::vector<int64_t> shape) {
  Named tensor{name, std::move(shape), {}};
  const uint64_t stream = StreamOf(model.seed, name);
  const bool gain = EndsWith(name, "norm.weight");
  const float scale = name == "model.embed_tokens.weight" ? 1.0f : 0.25f;
  int64_t count = 1;
  for (const int64_t dim : tensor.shape) count *= dim;
  for (int64_t i = 0; i < count; ++i) {
    const auto bits = static_cast<int64_t>(SplitMix(stream, static_cast<uint64_t>(i)) >> 40);
    const float u = static_cast<float>(bits - (1 << 23)) * 0x1p-23f;
    tensor.values.push_back(gain ? 1.0f + 0.25f * u : scale * u);
  }
  return tensor;
}

std::vector<Named> MakeTensors(const TinyModel& m) {
  std::vector<Named> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    tensors.push_back(MakeTensor(m, name, std::move(shape)));
  };
  const auto add_matrix = [&](const std::string& name, int64_t rows, int64_t cols) {
    add(name + ".weight", {rows, cols});
    if (m.biases) add(name + ".bias", {rows});
  };
  const int64_t q = m.num_heads * m.head_dim, kv = m.num_kv_heads * m.head_dim;
  add("model.embed_tokens.weight", {TinyModel::kVocabSize, m.hidden_size});
  for (int i = 0; i < m.num_layers; ++i) {
    const std::string layer = StrCat("model.layers.", i, ".");
    add(layer + "input_layernorm.weight", {m.hidden_size});
    add_matrix(layer + "self_attn.q_proj", q, m.hidden_size);
    add_matrix(layer + "self_attn.k_proj", kv, m.hidden_size);
    add_matrix(layer + "self_attn.v_proj", kv, m.hidden_size);
    add_matrix(layer + "self_attn.o_proj", m.hidden_size, q);
    add(layer + "post_attention_layernorm.weight", {m.hidden_size});
    add_matrix(layer + "mlp.gate_proj", m.mlp_size, m.hidden_size);
    add_matrix(layer + "mlp.up_proj", m.mlp_size, m.hidden_size);
    add_matrix(layer + "mlp.down_proj", m.hidden_size, m.mlp_size);
  }
  add("model.norm.weight", {m.hidden_size});
  if (!m.tied) add("lm_head.weight", {TinyModel::kVocabSize, m.hidden_size});
  return tensors;
}

float Rounded(DType dtype, float value) {
  if (dtype == DType::kF16) return F16ToFloat(FloatToF16(value));
  if (dtype == DType::kBF16) return BF16ToFloat(FloatToBF16(value));
  return value;
}

std::string Encode(DType dtype, const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) {
    if (dtype == DType::kF32) AppendBytes(&bytes, value);
    if (dtype == DType::kF16) AppendBytes(&bytes, FloatToF16(value));
    if (dtype == DType::kBF16) AppendBytes(&bytes, FloatToBF16(value));
  }
  return bytes;
}

// Any bits are a block; only the F16 scales need sane values.
std::string RandomBlocks(DType dtype, int64_t num_elements, uint64_t stream) {
  std::string bytes(static_cast<size_t>(RowBytes(dtype, num_elements)), '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(SplitMix(stream, i) >> 56);
  }
  const bool k_quant = BlockSize(dtype) == 256;
  const auto block_bytes = static_cast<size_t>(BlockBytes(dtype));
  const size_t scale_at = dtype == DType::kQ6_K ? 208 : 0;
  const bool has_min =
      k_quant ? dtype != DType::kQ6_K : dtype == DType::kQ4_1 || dtype == DType::kQ5_1;
  const float levels = dtype == DType::kQ8_0                            ? 127
                       : dtype == DType::kQ6_K                          ? 32 * 100.0f
                       : k_quant                                        ? 63 * 15.0f
                       : dtype == DType::kQ5_0 || dtype == DType::kQ5_1 ? 31
                                                                        : 15;
  const uint16_t d = FloatToF16(0.4f / levels);
  const uint16_t m = FloatToF16(k_quant ? 0.2f / 63 : -0.2f);
  for (size_t block = 0; block < bytes.size(); block += block_bytes) {
    std::memcpy(&bytes[block + scale_at], &d, 2);
    if (has_min) std::memcpy(&bytes[block + scale_at + 2], &m, 2);
  }
  return bytes;
}

std::string GgufName(const std::string& name) {
  return absl::StrReplaceAll(name, {{"model.layers.", "blk."},
                                    {"input_layernorm", "attn_norm"},
                                    {"self_attn.q_proj", "attn_q"},
                                    {"self_attn.k_proj", "attn_k"},
                                    {"self_attn.v_proj", "attn_v"},
                                    {"self_attn.o_proj", "attn_output"},
                                    {"post_attention_layernorm", "ffn_norm"},
                                    {"mlp.gate_proj", "ffn_gate"},
                                    {"mlp.up_proj", "ffn_up"},
                                    {"mlp.down_proj", "ffn_down"},
                                    {"model.norm", "output_norm"},
                                    {"model.embed_tokens", "token_embd"},
                                    {"lm_head", "output"}});
}

// Rows of each head from halves (i, i + d/2) to interleaved pairs (2i, 2i + 1).
void InterleaveHeads(int head_dim, Named* tensor) {
  const int64_t rows = tensor->shape[0], cols = tensor->shape.size() == 2 ? tensor->shape[1] : 1;
  const std::vector<float> source = tensor->values;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t in_head = row % head_dim, half = head_dim / 2;
    const int64_t target =
        row - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
    std::copy_n(source.begin() + row * cols, cols, tensor->values.begin() + target * cols);
  }
}

void SetGgufKeys(const TinyModel& m, GgufWriter* writer) {
  const auto set = [&](const char* key, int value) {
    writer->SetUint32(StrCat("llama.", key), static_cast<uint32_t>(value));
  };
  writer->SetString("general.architecture", "llama");
  set("block_count", m.num_layers);
  set("context_length", m.max_context);
  set("embedding_length", m.hidden_size);
  set("feed_forward_length", m.mlp_size);
  set("attention.head_count", m.num_heads);
  set("attention.head_count_kv", m.num_kv_heads);
  set("attention.key_length", m.head_dim);
  set("attention.value_length", m.head_dim);
  set("rope.dimension_count", m.head_dim);
  writer->SetFloat("llama.rope.freq_base", 10000.0f);
  writer->SetFloat("llama.attention.layer_norm_rms_epsilon", 1e-5f);
}

// rope_freqs.weight: how much slower each pair turns than without scaling.
void AddRopeDivisors(const TinyModel& m, GgufWriter* writer) {
  const auto spec = DecoderSpecFromConfigJson(TinyConfigJson(m));
  TRIREME_CHECK(spec.ok());
  const std::vector<float> scaled = InverseFrequencies(spec->rope, m.head_dim);
  std::vector<float> divisors = InverseFrequencies(RopeSpec{}, m.head_dim);
  for (size_t i = 0; i < divisors.size(); ++i) divisors[i] /= scaled[i];
  writer->AddTensor("rope_freqs.weight", DType::kF32, {m.head_dim / 2},
                    Encode(DType::kF32, divisors));
}

}  // namespace

std::string TinyConfigJson(const TinyModel& m) {
  const bool mistral = m.sliding_window > 0;
  return StrCat(
      R"({"architectures": [")", mistral ? "MistralForCausalLM" : "LlamaForCausalLM",
      R"("], "model_type": ")", mistral ? "mistral" : "llama", R"(", "hidden_act": "silu")",
      R"(, "hidden_size": )", m.hidden_size, R"(, "intermediate_size": )", m.mlp_size,
      R"(, "num_hidden_layers": )", m.num_layers, R"(, "num_attention_heads": )", m.num_heads,
      R"(, "num_key_value_heads": )", m.num_kv_heads, R"(, "head_dim": )", m.head_dim,
      R"(, "vocab_size": )", TinyModel::kVocabSize, R"(, "max_position_embeddings": )",
      m.max_context, R"(, "rms_norm_eps": 1e-05, "rope_theta": 10000.0)", R"(, "bos_token_id": )",
      TinyModel::kBos, R"(, "eos_token_id": )", TinyModel::kEos, R"(, "tie_word_embeddings": )",
      m.tied ? "true" : "false", R"(, "attention_bias": )", m.biases ? "true" : "false",
      R"(, "mlp_bias": )", m.biases ? "true" : "false",
      mistral ? StrCat(R"(, "sliding_window": )", m.sliding_window) : "",
      m.rope_scaling.empty() ? "" : StrCat(R"(, "rope_scaling": )", m.rope_scaling), "}");
}

void WriteTinyHuggingFaceModel(const TinyModel& m, const std::string& directory) {
  WriteFile(directory + "/config.json", TinyConfigJson(m));
  WriteTinyTokenizer(directory);
  const std::vector<Named> tensors = MakeTensors(m);
  if (m.num_shards == 1) {
    SafetensorsWriter writer;
    for (const Named& t : tensors)
      writer.AddTensor(t.name, m.dtype, t.shape, Encode(m.dtype, t.values));
    WriteFile(directory + "/model.safetensors", writer.Serialize());
    return;
  }
  std::vector<SafetensorsWriter> shards(static_cast<size_t>(m.num_shards));
  std::string weight_map;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Named& t = tensors[i];
    const size_t shard = i % shards.size();
    shards[shard].AddTensor(t.name, m.dtype, t.shape, Encode(m.dtype, t.values));
    StrAppend(&weight_map, i == 0 ? "" : ",", "\"", t.name, "\":\"shard-", shard, ".safetensors\"");
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    WriteFile(StrCat(directory, "/shard-", i, ".safetensors"), shards[i].Serialize());
  }
  WriteFile(directory + "/model.safetensors.index.json",
            StrCat(R"({"metadata": {}, "weight_map": {)", weight_map, "}}"));
}

void WriteTinyGguf(const TinyModel& m, const std::string& path) {
  GgufWriter writer;
  SetGgufKeys(m, &writer);
  SetTinyTokenizer(&writer);
  if (!m.rope_scaling.empty()) AddRopeDivisors(m, &writer);
  for (Named& t : MakeTensors(m)) {
    const bool rotated =
        t.name.find("q_proj") != std::string::npos || t.name.find("k_proj") != std::string::npos;
    if (rotated) InterleaveHeads(m.head_dim, &t);
    for (float& value : t.values)
      value = Rounded(m.dtype, value);  // vectors come from such a file too
    const DType dtype = t.shape.size() == 1 ? DType::kF32 : m.dtype;
    const auto count = static_cast<int64_t>(t.values.size());
    writer.AddTensor(GgufName(t.name), dtype, t.shape,
                     IsQuantized(dtype) ? RandomBlocks(dtype, count, StreamOf(m.seed, t.name))
                                        : Encode(dtype, t.values));
  }
  WriteFile(path, writer.Serialize());
}

}  // namespace trireme::fakes
