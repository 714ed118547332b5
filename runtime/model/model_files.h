// A model on disk, whichever format: opened and understood, not yet loaded.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/model/decoder_spec.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/gguf.h"

namespace trireme {

struct ModelFiles {
  std::string path;  // as it was asked for
  DecoderSpec spec;
  std::unique_ptr<Checkpoint> checkpoint;
  const GgufFile* gguf = nullptr;  // `checkpoint` when it is one: its metadata hold the tokenizer
  std::string directory;           // else: the folder with config.json and tokenizer.json
};

// `path`: a .gguf file or a Hugging Face folder. NOT_FOUND, or INVALID_ARGUMENT naming file and
// field.
absl::StatusOr<ModelFiles> OpenModelFiles(const std::string& path);

}  // namespace trireme
