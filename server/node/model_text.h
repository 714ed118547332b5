// The text side of a model's files: tokenizer, chat template, defaults. The other side, spec and
// weights, is runtime/model/model_files.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/engine/request.h"
#include "runtime/model/model_files.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"

namespace trireme {

struct ModelText {
  std::unique_ptr<const Tokenizer> tokenizer;
  std::string chat_template;        // Jinja source; empty: the model has none
  std::string chat_template_file;   // where it was found, for messages
  SamplingParams default_sampling;  // generation_config.json over the wire's defaults
  // Of tokenizer, config.json and generation_config.json together.
  std::vector<TokenId> eos_ids;
};

// Errors name file and field.
absl::StatusOr<ModelText> OpenModelText(const ModelFiles& files);

// The model's chat template, or that of `replacement_file` (--chat-template) unless it is empty.
// nullptr: there is none. Errors name the file.
absl::StatusOr<std::unique_ptr<const ChatTemplate>> CompileChatTemplate(
    const ModelText& text, const std::string& replacement_file);

// The type that most of the weights' bytes have: "Q4_1", "BF16".
std::string DominantType(const Checkpoint& checkpoint);

}  // namespace trireme
