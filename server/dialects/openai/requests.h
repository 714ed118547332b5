// The OpenAI request bodies, and vLLM's additions to them, as TextRequest. Shapes and types are
// checked here, and fields that are not supported are refused by name; ranges are the business of
// the one validator behind every door.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/node/generation.h"

namespace trireme::openai {

constexpr size_t kMaxMetadataPairs = 16;

// A body of /v1/chat/completions or /v1/completions.
struct OpenAiRequest {
  bool chat = false;
  TextRequest text;
  bool stream = false;
  bool include_usage = false;  // stream_options.include_usage
  // How this client spelt the limit: max_tokens or max_completion_tokens.
  std::string max_tokens_name = "max_tokens";

  // The validator's parameter names, as this client spelt them.
  absl::Status InClientTerms(absl::Status error) const;
};

// `defaults`: the node's sampling, for what the request leaves out. INVALID_ARGUMENT with param and
// code.
absl::StatusOr<OpenAiRequest> ParseChatRequest(std::string_view body,
                                               const SamplingParams& defaults);
absl::StatusOr<OpenAiRequest> ParseCompletionRequest(std::string_view body,
                                                     const SamplingParams& defaults);

// A body of /tokenize, as vLLM has it.
struct TokenizeRequest {
  std::string model;  // may be empty: the only one
  std::variant<std::string, ChatPrompt> input;
  bool add_special_tokens = true;  // with messages the template puts them: false
  bool return_token_strings = false;
};
absl::StatusOr<TokenizeRequest> ParseTokenizeRequest(std::string_view body);

struct DetokenizeRequest {
  std::string model;  // may be empty: the only one
  std::vector<TokenId> tokens;
};
absl::StatusOr<DetokenizeRequest> ParseDetokenizeRequest(std::string_view body);

}  // namespace trireme::openai
