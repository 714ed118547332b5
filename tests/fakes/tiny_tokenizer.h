// The tokenizer of the tiny models: byte-level BPE without merges, so that text is its bytes.
#pragma once

#include <string>

#include "tests/fakes/gguf_writer.h"

namespace trireme::fakes {

// Writes tokenizer.json, tokenizer_config.json (with a chat template) and generation_config.json.
void WriteTinyTokenizer(const std::string& directory);

// The same as tokenizer.ggml.* keys.
void SetTinyTokenizer(GgufWriter* writer);

}  // namespace trireme::fakes
