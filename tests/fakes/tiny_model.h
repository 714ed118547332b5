// Tiny Llama models with made-up weights, written as real model files: for tests of everything
// above the weights.
//
// Weights follow from a formula on integers that tests/golden/make_logits_golden.py repeats, so
// that expected logits need no weights on disk. The vocabulary is the 256 bytes and three special
// tokens, so that any text has an encoding of one token per byte.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/dtype.h"

namespace trireme::fakes {

struct TinyModel {
  uint64_t seed = 1;
  int num_layers = 2;
  int hidden_size = 64;
  int num_heads = 4;
  int num_kv_heads = 2;
  int head_dim = 16;
  int mlp_size = 96;
  int max_context = 512;
  bool tied = false;
  bool biases = false;        // attention_bias and mlp_bias
  int sliding_window = 0;     // > 0: written as a MistralForCausalLM
  DType dtype = DType::kF32;  // of matrices; safetensors: F32, F16, BF16; GGUF: any
  std::string rope_scaling;   // JSON object for config.json; empty: none
  int num_shards = 1;         // safetensors files

  static constexpr int kVocabSize = 259;
  static constexpr int kBos = 256, kEos = 257, kImStart = 258;
};

// config.json alone.
std::string TinyConfigJson(const TinyModel& model);

// Writes a Hugging Face folder: config.json, weights, tokenizer.json, tokenizer_config.json (a
// ChatML-like template), generation_config.json. `directory` must exist.
void WriteTinyHuggingFaceModel(const TinyModel& model, const std::string& directory);

// Writes one GGUF file with the same weights (query and key rows permuted for interleaved rope)
// when `dtype` is F32, F16 or BF16. Other types hold random blocks: deterministic, but another
// model. rope_scaling is written as rope_freqs.weight, as llama.cpp's converter does. Columns must
// be whole blocks. No sliding window.
void WriteTinyGguf(const TinyModel& model, const std::string& path);

}  // namespace trireme::fakes
