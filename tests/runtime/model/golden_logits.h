// tests/golden/logits_golden.bin: Transformers' logits for tiny models. See make_logits_golden.py.
#pragma once

#include <cmath>
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/ids.h"
#include "tests/fakes/tiny_model.h"

namespace trireme {

struct GoldenLogits {
  std::vector<TokenId> tokens;
  std::vector<int32_t> positions;
  std::vector<std::vector<float>> logits;  // per position: [vocab_size]
};

// Empty when there is no such case.
inline GoldenLogits ReadGoldenLogits(std::string_view wanted) {
  std::ifstream file(TRIREME_SOURCE_DIR "/tests/golden/logits_golden.bin", std::ios::binary);
  const auto read = [&](auto* values, size_t count) {
    values->resize(count);
    file.read(reinterpret_cast<char*>(values->data()), static_cast<std::streamsize>(count * 4));
  };
  char name[17] = {};
  while (file.read(name, 16)) {
    std::vector<uint32_t> sizes;
    GoldenLogits golden;
    read(&sizes, 3);
    read(&golden.tokens, sizes[0]);
    read(&golden.positions, sizes[1]);
    golden.logits.resize(sizes[1]);
    for (auto& row : golden.logits) read(&row, sizes[2]);
    if (wanted == name) return golden;
  }
  return {};
}

// The model of a case; the same list as in the script.
inline fakes::TinyModel GoldenModel(std::string_view name) {
  constexpr char kLlama3[] = R"({"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0,
      "high_freq_factor": 4.0, "original_max_position_embeddings": 64})";
  fakes::TinyModel model;
  if (name == "f32") {
    model.rope_scaling = kLlama3;
  } else if (name == "f32_tied") {
    model.seed = 2;
    model.tied = model.biases = true;
    model.rope_scaling = R"({"rope_type": "linear", "factor": 2.0})";
  } else if (name == "f32_window") {
    model.seed = 3;
    model.sliding_window = 8;
  } else if (name == "bf16") {
    model.seed = 4;
    model.rope_scaling = kLlama3;
  } else if (name == "bf16_tied") {
    model.seed = 5;
    model.tied = true;
  }
  if (name.starts_with("bf16")) model.dtype = DType::kBF16;
  return model;
}

// ||actual - expected|| / ||expected||.
template <typename A, typename B>
double RelativeError(const A& actual, const B& expected, size_t count) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < count; ++i) {
    const double a = static_cast<double>(actual[i]), e = static_cast<double>(expected[i]);
    difference += (a - e) * (a - e);
    norm += e * e;
  }
  return std::sqrt(difference / norm);
}

}  // namespace trireme
