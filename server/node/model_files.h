// What a model's files say, before any weight is touched: a GGUF file or a Hugging Face directory,
// in one form.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/engine/request.h"
#include "runtime/model/decoder_spec.h"
#include "runtime/text/tokenizer.h"
#include "runtime/weights/checkpoint.h"

namespace trireme {

struct ModelFiles {
  std::unique_ptr<Checkpoint> checkpoint;
  DecoderSpec spec;
  std::unique_ptr<const Tokenizer> tokenizer;
  std::string chat_template;        // Jinja source; empty: the model has none
  SamplingParams default_sampling;  // generation_config.json over the wire's defaults
  std::vector<TokenId> eos_ids;     // of tokenizer, config.json and generation_config.json together
  std::string quantization;         // the type that most weights have: "Q4_1", "BF16"
};

// `path`: a .gguf file, or a directory with config.json (or with exactly one .gguf file). Errors
// name file and field.
absl::StatusOr<ModelFiles> OpenModelFiles(const std::string& path);

}  // namespace trireme
