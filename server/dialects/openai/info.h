// The small answers: models, tokenize, detokenize, tokenizer_info.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/node/node.h"

namespace trireme::openai {

// {"object":"list","data":[...]}: the model under its id and each alias.
std::string ModelList(const ModelInfo& info);
// One model object under `name`.
std::string ModelObject(const ModelInfo& info, std::string_view name);

// {"count","max_model_len","tokens","token_strs"}; `with_strings`: token_strs is an array, else
// null.
std::string TokenizeAnswer(const Node& node, const std::vector<TokenId>& tokens, bool with_strings);
// {"prompt":...}
std::string DetokenizeAnswer(std::string_view prompt);
// bos_token, eos_token ..., chat_template: what evaluation harnesses read instead of downloading a
// tokenizer.
std::string TokenizerInfo(const Node& node);

// GET /v1/requests.
std::string RequestList(const RequestRegistry::Listing& listing, absl::Time now);
// {"id","object":"request","cancelled":true}
std::string RequestCancelledAnswer(std::string_view id);

// Short and stable for one model and program version; changes when answers may change.
std::string SystemFingerprint(const ModelInfo& info, std::string_view program_version);

}  // namespace trireme::openai
