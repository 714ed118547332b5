#include "runtime/text/end_tokens.h"

#include <algorithm>

namespace trireme {
namespace {

constexpr std::string_view kEndTokens[] = {
    "<|im_end|>",             // ChatML: Qwen, SmolLM
    "<|endoftext|>",          // GPT-2 and its descendants
    "<|eot_id|>",             // Llama 3
    "<|eom_id|>",             // Llama 3.1, before a tool answers
    "<|end_of_text|>",        // Llama 3, Granite
    "<|eot|>",                // Llama 4
    "<end_of_turn>",          // Gemma
    "<|return|>",             // gpt-oss
    "<|call|>",               // gpt-oss, before a tool answers
    "<｜end▁of▁sentence｜>",  // DeepSeek
};
constexpr std::string_view kPhiEnd =
    "<|end|>";  // but only a border between messages where <|return|> exists

}  // namespace

void CollectEndTokens(TokenizerSpec* spec) {
  const auto add = [spec](TokenId id) {
    if (std::find(spec->eos_ids.begin(), spec->eos_ids.end(), id) == spec->eos_ids.end()) {
      spec->eos_ids.push_back(id);
    }
  };
  if (spec->eos) add(*spec->eos);
  const TokenizerSpec::AddedToken* phi_end = nullptr;
  bool is_harmony = false;
  for (const TokenizerSpec::AddedToken& token : spec->added_tokens) {
    if (!token.special) continue;
    if (std::find(std::begin(kEndTokens), std::end(kEndTokens), token.content) !=
        std::end(kEndTokens)) {
      add(token.id);
    }
    if (token.content == kPhiEnd) phi_end = &token;
    is_harmony |= token.content == "<|return|>";
  }
  if (phi_end != nullptr && !is_harmony) add(phi_end->id);
}

}  // namespace trireme
