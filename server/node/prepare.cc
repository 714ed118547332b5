// From a door's request to engine requests: checks, chat template, tokenization.
#include <algorithm>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/engine/refusals.h"
#include "server/node/generation.h"

namespace trireme {
namespace {

absl::Status CheckRange(std::string_view param, int value, int low, int high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return InvalidParam(param,
                      StrCat(param, " must be between ", low, " and ", high, ", got ", value),
                      value < low ? "integer_below_min_value" : "integer_above_max_value");
}

absl::Status CheckStop(const std::vector<std::string>& stop) {
  if (stop.size() > kMaxStopStrings) {
    return InvalidParam("stop", StrCat("at most ", kMaxStopStrings, " stop strings are allowed"),
                        "array_above_max_length");
  }
  for (const std::string& s : stop) {
    if (s.empty()) return InvalidParam("stop", "a stop string is empty", "empty_string");
    if (s.size() > kMaxStopBytes) {
      return InvalidParam("stop", StrCat("a stop string is longer than ", kMaxStopBytes, " bytes"),
                          "string_above_max_length");
    }
  }
  return absl::OkStatus();
}

int NumCandidates(const TextRequest& request) { return request.best_of.value_or(request.n); }

absl::Status CheckCounts(const TextRequest& request) {
  TRIREME_RETURN_IF_ERROR(CheckRange("n", request.n, 1, kMaxChoices));
  if (request.best_of) {
    TRIREME_RETURN_IF_ERROR(CheckRange("best_of", *request.best_of, 1, kMaxBestOf));
    if (*request.best_of < request.n) {
      return InvalidParam("best_of", "best_of must not be smaller than n",
                          "integer_below_min_value");
    }
  }
  // Without echo nobody would see anything of such a request.
  const bool shows_prompt = request.echo || request.base.sampling.prompt_logprobs;
  if (request.base.max_tokens == 0 && !shows_prompt) {
    return InvalidParam("max_tokens", "max_tokens must be at least 1", "integer_below_min_value");
  }
  return CheckStop(request.stop);
}

// Text that cannot fit the context however it is tokenized is not tokenized.
absl::Status CheckTextLength(const Node& node, size_t num_bytes, std::string_view param) {
  // Where text may vanish there is no such bound; then longer text is refused all the same, for it
  // could occupy a worker for as long as its sender likes.
  constexpr size_t kGenerousBytesPerToken = 256;
  const size_t max_bytes_per_token =
      std::max<size_t>(1, node.tokenizer->max_bytes_per_token().value_or(kGenerousBytesPerToken));
  const size_t min_tokens = num_bytes / max_bytes_per_token;
  const int max_context = node.engine->options().limits.max_context_tokens;
  if (min_tokens <= static_cast<size_t>(max_context)) return absl::OkStatus();
  return InvalidParam(param,
                      StrCat("the maximum context length is ", max_context,
                             " tokens, but the prompt alone has more than ", min_tokens),
                      "context_length_exceeded");
}

absl::StatusOr<std::vector<TokenId>> ChatTokens(const Node& node, const ChatPrompt& chat) {
  if (node.chat_template == nullptr) {
    return InvalidParam("messages", "this model has no chat template: use the completions endpoint",
                        "chat_not_supported");
  }
  if (chat.messages.empty()) {
    return InvalidParam("messages", "messages must not be empty", "empty_array");
  }
  if (chat.continue_final_message && chat.add_generation_prompt) {
    return InvalidParam("continue_final_message",
                        "continue_final_message and add_generation_prompt exclude each other");
  }
  const Tokenizer& tokenizer = *node.tokenizer;
  const auto token_text = [&](std::optional<TokenId> id) {
    return id ? std::string(tokenizer.TokenBytes(*id)) : std::string();
  };
  ChatTemplateInputs inputs;
  inputs.messages = chat.messages;
  inputs.tools = chat.tools;
  inputs.extra = chat.template_kwargs;
  inputs.add_generation_prompt = chat.add_generation_prompt;
  inputs.continue_final_message = chat.continue_final_message;
  inputs.bos_token = token_text(tokenizer.spec().bos);
  inputs.eos_token = token_text(tokenizer.spec().eos);
  inputs.now = node.clock->Now();
  absl::StatusOr<RenderedPrompt> rendered = node.chat_template->Render(inputs);
  if (!rendered.ok()) {
    // What the template could not make of the messages; other fields are named by the error itself.
    const std::string param = ErrorParam(rendered.status());
    return InvalidParam(param.empty() ? "messages" : param, FromAbsl(rendered.status().message()),
                        "chat_template_error");
  }
  TRIREME_RETURN_IF_ERROR(CheckTextLength(node, rendered->text.size(), "messages"));
  // No bos of our own: a template writes the one its model wants.
  return tokenizer.EncodeTemplate(rendered->text, rendered->user_spans, /*add_special=*/false);
}

absl::StatusOr<std::vector<TokenId>> PromptTokens(const Node& node, const TextPrompt& prompt) {
  if (const auto* ids = std::get_if<std::vector<TokenId>>(&prompt)) return *ids;
  return EncodeText(node, std::get<std::string>(prompt), "prompt", /*add_special=*/true);
}

// The engine request of one prompt; candidates differ from it by their seed only.
GenerateRequest FirstCandidate(const TextRequest& request, std::vector<TokenId> prompt) {
  GenerateRequest first = request.base;
  first.prompt = std::move(prompt);
  SamplingParams& sampling = first.sampling;
  if (sampling.top_k == -1) sampling.top_k = 0;  // how vLLM's clients say "off"
  sampling.prompt_logprobs |= request.echo && sampling.logprobs.has_value();
  // Choosing the best needs the logprobs of the tokens, whether the client wants them or not.
  if (NumCandidates(request) > request.n && !sampling.logprobs) sampling.logprobs = 0;
  return first;
}

// What could never be queued as a whole is the request's own fault, not overload.
absl::Status CheckTotal(const Node& node, const TextRequest& request,
                        const std::vector<GenerateRequest>& firsts) {
  int64_t num_prompt_tokens = 0;
  for (const GenerateRequest& first : firsts) {
    num_prompt_tokens += static_cast<int64_t>(first.prompt.size());
  }
  const int64_t candidates = NumCandidates(request);
  const SamplingParams& sampling = firsts[0].sampling;
  if (sampling.prompt_logprobs &&
      num_prompt_tokens * (1 + sampling.logprobs.value_or(0)) > kMaxPromptLogprobs / candidates) {
    return InvalidParam("logprobs",
                        StrCat("the logprobs of all prompt tokens, their alternatives and choices "
                               "would be more than ",
                               kMaxPromptLogprobs, " numbers"),
                        "request_too_large");
  }
  const SchedulerOptions& queue = node.engine->options().scheduler;
  if (static_cast<int64_t>(firsts.size()) * candidates <= queue.max_waiting_requests &&
      num_prompt_tokens <= queue.max_waiting_prompt_tokens / candidates) {
    return absl::OkStatus();
  }
  return InvalidParam(candidates > 1 ? "n" : "prompt",
                      StrCat("all prompts and choices together exceed what this server queues (",
                             queue.max_waiting_requests, " sequences, ",
                             queue.max_waiting_prompt_tokens, " prompt tokens)"),
                      "request_too_large");
}

// Priority is strict (runtime/scheduler/scheduler.h): whoever goes before everybody could starve
// all other tenants. Going behind them is anybody's right.
absl::Status CheckPriority(const TextRequest& request) {
  if (request.base.priority >= 0 || request.may_raise_priority) return absl::OkStatus();
  return WithCode(
      WithParam(
          absl::PermissionDeniedError(
              "a priority below 0 runs before everybody else's requests and needs an API key "
              "with the right to it (the word 'priority' after the tenant in the server's key "
              "file); use 0, the default, or more"),
          "priority"),
      "priority_not_allowed");
}

absl::Status Validated(const Node& node, const GenerateRequest& request, bool is_chat) {
  absl::Status status = ValidateRequest(request, node.engine->options().limits);
  return is_chat && ErrorParam(status) == "prompt" ? WithParam(status, "messages") : status;
}

}  // namespace

absl::Status CheckModel(const Node& node, std::string_view model) {
  if (model == node.info.id) return absl::OkStatus();
  for (const std::string& alias : node.info.aliases) {
    if (model == alias) return absl::OkStatus();
  }
  return WithCode(
      WithParam(absl::NotFoundError("the model does not exist or is not served here"), "model"),
      "model_not_found");
}

absl::Status WorkersBusy() {
  return Overloaded("too many requests are waiting to be prepared, try again later");
}

absl::StatusOr<std::vector<TokenId>> EncodeText(const Node& node, std::string_view text,
                                                std::string_view param, bool add_special) {
  TRIREME_RETURN_IF_ERROR(CheckTextLength(node, text.size(), param));
  return node.tokenizer->Encode(text, Tokenizer::SpecialTokens::kParse, add_special);
}

absl::StatusOr<std::string> DecodeTokens(const Node& node, absl::Span<const TokenId> ids,
                                         std::string_view param, bool skip_special) {
  TRIREME_RETURN_IF_ERROR(CheckTokenIds(param, ids, node.info.vocab_size));
  return node.tokenizer->Decode(ids, skip_special);
}

absl::StatusOr<std::vector<GenerateRequest>> Prepare(const Node& node, const TextRequest& request) {
  if (!request.model.empty()) TRIREME_RETURN_IF_ERROR(CheckModel(node, request.model));
  TRIREME_RETURN_IF_ERROR(CheckCounts(request));
  std::vector<GenerateRequest> firsts;  // one per prompt
  const auto* chat = std::get_if<ChatPrompt>(&request.input);
  const auto add = [&](std::vector<TokenId> prompt) -> absl::Status {
    firsts.push_back(FirstCandidate(request, std::move(prompt)));
    return Validated(node, firsts.back(), chat != nullptr);
  };
  if (chat != nullptr) {
    if (request.echo) return InvalidParam("echo", "echo is for completions, not for chat");
    TRIREME_ASSIGN_OR_RETURN(std::vector<TokenId> prompt, ChatTokens(node, *chat));
    TRIREME_RETURN_IF_ERROR(add(std::move(prompt)));
  } else {
    const auto& prompts = std::get<std::vector<TextPrompt>>(request.input);
    if (prompts.empty()) return InvalidParam("prompt", "no prompt was given", "empty_array");
    if (prompts.size() > kMaxPrompts) {
      return InvalidParam("prompt", StrCat("at most ", kMaxPrompts, " prompts are allowed"),
                          "array_above_max_length");
    }
    for (const TextPrompt& prompt : prompts) {
      TRIREME_ASSIGN_OR_RETURN(std::vector<TokenId> tokens, PromptTokens(node, prompt));
      TRIREME_RETURN_IF_ERROR(add(std::move(tokens)));
    }
  }
  TRIREME_RETURN_IF_ERROR(CheckPriority(request));  // now that it is known to be in its range
  TRIREME_RETURN_IF_ERROR(CheckTotal(node, request, firsts));

  const int candidates = NumCandidates(request);
  std::vector<GenerateRequest> prepared;
  prepared.reserve(firsts.size() * static_cast<size_t>(candidates));
  for (GenerateRequest& first : firsts) {
    for (int i = 0; i < candidates; ++i) {
      GenerateRequest& candidate = prepared.emplace_back(first);
      if (candidate.sampling.seed) *candidate.sampling.seed += static_cast<uint64_t>(i);
    }
  }
  return prepared;
}

}  // namespace trireme
