// A model family: how its configuration and weight names map to a DecoderSpec. One file each in
// families/.
#pragma once

#include <boost/json/object.hpp>
#include <string_view>

#include "absl/status/statusor.h"
#include "runtime/model/decoder_spec.h"
#include "runtime/model/field_reader.h"

namespace trireme {

struct ModelFamily {
  // Name in config.json's `architectures`, or empty; and what reads such a config.
  std::string_view hf_architecture;
  absl::StatusOr<DecoderSpec> (*from_config)(const boost::json::object& config) = nullptr;
  // Name in GGUF's general.architecture, or empty; and what reads such a file.
  std::string_view gguf_architecture;
  absl::StatusOr<DecoderSpec> (*from_gguf)(const GgufFile& file) = nullptr;
};

// Upper bounds for the sizes of any model; far above what exists.
inline constexpr int kMaxLayers = 4096;
inline constexpr int kMaxHiddenSize = 1 << 20;
inline constexpr int kMaxHeads = 1 << 12;
inline constexpr int kMaxHeadDim = 1 << 10;
inline constexpr int kMaxMlpSize = 1 << 22;
inline constexpr int kMaxVocabSize = 1 << 24;
inline constexpr int kMaxContext = 1 << 30;

// What many families share: the usual tensor names, the names of activations, hidden_size /
// num_heads in place of a head dimension that the file does not give (`key`).
DecoderSpec::Names HuggingFaceNames();
DecoderSpec::Names GgufNames();
Activation ReadActivation(std::string_view key, FieldReader* fields);
int DerivedHeadDim(const DecoderSpec& spec, std::string_view key, FieldReader* fields);

extern const ModelFamily kLlamaFamily;
extern const ModelFamily kMistralFamily;

}  // namespace trireme
