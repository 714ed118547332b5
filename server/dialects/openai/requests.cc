#include "server/dialects/openai/requests.h"

#include <charconv>
#include <limits>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/dialects/openai/json_body.h"
#include "server/dialects/openai/messages.h"

namespace trireme::openai {
namespace {

namespace json = boost::json;

constexpr std::string_view kNotYet = "This server does not support it.";
constexpr std::string_view kTextOnly = "This model takes and gives text only.";

// Ids beyond the vocabulary are the validator's business; here they only have to fit.
void ReadTokenIds(FieldReader& fields, std::string_view name, const json::array& array,
                  std::vector<TokenId>* out) {
  out->reserve(array.size());
  for (size_t i = 0; i < array.size(); ++i) {
    const int64_t* id = array[i].if_int64();
    if (id == nullptr) return fields.FailType(StrCat(name, "[", i, "]"), "an integer", array[i]);
    if (*id < std::numeric_limits<TokenId>::min() || *id > std::numeric_limits<TokenId>::max()) {
      return fields.Fail(
          InvalidParam(fields.Path(name),
                       StrCat(fields.Path(name), ": token id ", *id, " is not in the vocabulary"),
                       "invalid_token_id"));
    }
    out->push_back(static_cast<TokenId>(*id));
  }
}

void ReadStop(FieldReader& fields, std::vector<std::string>* out) {
  const json::value* stop = fields.Find("stop");
  if (stop == nullptr) return;
  if (stop->is_string()) {
    out->emplace_back(std::string_view(stop->get_string()));
  } else if (const json::array* strings = stop->if_array()) {
    for (size_t i = 0; i < strings->size(); ++i) {
      const json::string* text = (*strings)[i].if_string();
      if (text == nullptr)
        return fields.FailType(StrCat("stop[", i, "]"), "a string", (*strings)[i]);
      out->emplace_back(std::string_view(*text));
    }
  } else {
    return fields.FailType("stop", "a string or an array of strings", *stop);
  }
}

void ReadLogitBias(FieldReader& fields, std::vector<std::pair<TokenId, float>>* out) {
  const json::object* object = fields.Object("logit_bias");
  if (object == nullptr) return;
  for (const auto& member : *object) {
    const std::string_view key = member.key();
    TokenId id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    // The canonical spelling only: "7" and "07" would be the same token twice.
    if (error != std::errc() || id < 0 || key != std::to_string(id)) {
      return fields.Fail(InvalidParam(
          "logit_bias", "Invalid key in 'logit_bias': keys are token ids.", "invalid_value"));
    }
    if (!member.value().is_number()) {
      return fields.FailType(StrCat("logit_bias.", id), "a number", member.value());
    }
    out->emplace_back(id, member.value().to_number<float>());
  }
}

void ReadStreamOptions(FieldReader& fields, OpenAiRequest* out) {
  const json::object* object = fields.Object("stream_options");
  if (object == nullptr) return;
  if (!out->stream) {
    return fields.Fail(
        InvalidParam("stream_options", "'stream_options' is only allowed when 'stream' is true."));
  }
  FieldReader options(*object, "stream_options.");
  options.Bool("include_usage", &out->include_usage);
  options.RefuseUnless("include_obfuscation", false, kNotYet);
  options.RefuseUnless("continuous_usage_stats", false, kNotYet);
  fields.Fail(options.Finish());
}

// Labels for the client's own bookkeeping: checked, then not needed.
void ReadLabels(FieldReader& fields) {
  std::string label;
  for (const char* name : {"user", "safety_identifier", "prompt_cache_key"}) {
    fields.String(name, &label);
  }
  if (const json::object* metadata = fields.Object("metadata")) {
    if (metadata->size() > kMaxMetadataPairs) {
      fields.Fail(InvalidParam(
          "metadata", StrCat("Invalid 'metadata': more than ", kMaxMetadataPairs, " pairs."),
          "object_above_max_properties"));
    }
    for (const auto& member : *metadata) {
      if (!member.value().is_string()) {
        fields.FailType(StrCat("metadata.", Printable(member.key())), "a string", member.value());
      }
    }
  }
}

void ReadSampling(FieldReader& fields, SamplingParams* out) {
  fields.Number("temperature", &out->temperature);
  fields.Number("top_p", &out->top_p);
  fields.Integer("top_k", &out->top_k);
  fields.Number("min_p", &out->min_p);
  fields.Number("typical_p", &out->typical_p);
  fields.Number("repetition_penalty", &out->repetition_penalty);
  fields.Number("presence_penalty", &out->presence_penalty);
  fields.Number("frequency_penalty", &out->frequency_penalty);
  if (int64_t seed = 0; fields.Integer("seed", &seed)) out->seed = static_cast<uint64_t>(seed);
  ReadLogitBias(fields, &out->logit_bias);
}

// What chat and completions have in common.
void ReadCommon(FieldReader& fields, OpenAiRequest* out) {
  TextRequest& text = out->text;
  fields.Require("model");
  fields.String("model", &text.model);
  fields.Bool("stream", &out->stream);
  ReadStreamOptions(fields, out);
  fields.Integer("n", &text.n);
  ReadSampling(fields, &text.base.sampling);
  ReadStop(fields, &text.stop);
  if (const json::array* ids = fields.Array("stop_token_ids")) {
    ReadTokenIds(fields, "stop_token_ids", *ids, &text.base.stop_token_ids);
  }
  fields.Bool("include_stop_str_in_output", &text.include_stop_in_output);
  fields.Bool("ignore_eos", &text.base.ignore_eos);
  fields.Integer("min_tokens", &text.base.min_tokens);
  fields.Bool("skip_special_tokens", &text.skip_special_tokens);
  fields.RefuseUnless("spaces_between_special_tokens", true, kNotYet);
  fields.Integer("priority", &text.base.priority);
  ReadLabels(fields);
  fields.RefuseUnless("store", false, "Nothing is stored.");
  if (std::string tier;
      fields.String("service_tier", &tier) && tier != "auto" && tier != "default") {
    fields.Fail(InvalidParam("service_tier",
                             "Unsupported value for 'service_tier'. Supported values are: 'auto' "
                             "and 'default'.",
                             "unsupported_value"));
  }
  fields.Refuse("prompt_logprobs", "Use 'echo' with 'logprobs' on /v1/completions.");
}

void ReadMaxTokens(FieldReader& fields, OpenAiRequest* out) {
  if (int limit = 0; fields.Integer("max_tokens", &limit)) out->text.base.max_tokens = limit;
  if (int limit = 0; fields.Integer("max_completion_tokens", &limit)) {
    if (out->text.base.max_tokens) {
      fields.Fail(
          InvalidParam("max_tokens",
                       "Setting 'max_tokens' and 'max_completion_tokens' at the same time is "
                       "not supported."));
    }
    out->text.base.max_tokens = limit;
    out->max_tokens_name = "max_completion_tokens";
  }
}

void ReadChatLogprobs(FieldReader& fields, SamplingParams* out) {
  bool logprobs = false;
  int top = 0;
  fields.Bool("logprobs", &logprobs);
  if (fields.Integer("top_logprobs", &top) && !logprobs) {
    fields.Fail(InvalidParam("top_logprobs", "'top_logprobs' needs 'logprobs' to be true."));
  }
  if (logprobs) out->logprobs = top;
}

void RefuseChatFields(FieldReader& fields) {
  if (const json::array* tools = fields.Array("tools"); tools != nullptr && !tools->empty()) {
    fields.Refuse("tools", kToolsNotSupported);
  }
  fields.RefuseUnless("tool_choice", "none", kToolsNotSupported);
  for (const char* name : {"parallel_tool_calls", "functions", "function_call"}) {
    fields.Refuse(name, kToolsNotSupported);
  }
  if (const json::array* kinds = fields.Array("modalities");
      kinds != nullptr && *kinds != json::array{"text"}) {
    fields.Fail(InvalidParam("modalities",
                             StrCat("Unsupported value for 'modalities'. ", kTextOnly),
                             "unsupported_value"));
  }
  fields.Refuse("audio", kTextOnly);
  if (const json::object* object = fields.Object("response_format")) {
    FieldReader format(*object, "response_format.");
    format.Require("type");
    format.RefuseUnless("type", "text", "Only 'text' is supported by this server yet.");
    fields.Fail(format.Finish());
  }
  fields.RefuseUnless("reasoning_effort", "none",
                      "Use 'chat_template_kwargs' where the model has one.");
  fields.RefuseUnless("verbosity", "medium", kNotYet);
  fields.RefuseUnless("echo", false, "It is a field of /v1/completions.");
  fields.RefuseUnless("add_special_tokens", false, "The chat template puts them.");
  for (const char* name : {"prediction", "web_search_options", "chat_template", "documents"}) {
    fields.Refuse(name, kNotYet);
  }
}

void ReadPrompts(FieldReader& fields, std::vector<TextPrompt>* out) {
  fields.Require("prompt");
  const json::value* prompt = fields.Find("prompt");
  if (prompt == nullptr) return;
  if (prompt->is_string()) {
    out->emplace_back(std::string(std::string_view(prompt->get_string())));
    return;
  }
  const json::array* array = prompt->if_array();
  if (array == nullptr) {
    return fields.FailType("prompt", "a string, an array of token ids, or an array of either",
                           *prompt);
  }
  if (array->empty()) {
    return fields.Fail(InvalidParam("prompt", "Invalid 'prompt': empty array.", "empty_array"));
  }
  if ((*array)[0].is_number()) {
    ReadTokenIds(fields, "prompt", *array, &std::get<1>(out->emplace_back(std::vector<TokenId>())));
    return;
  }
  // All strings, or all arrays of ids: as the first.
  const bool strings = (*array)[0].is_string();
  for (size_t i = 0; i < array->size() && fields.ok(); ++i) {
    const json::value& element = (*array)[i];
    const std::string name = StrCat("prompt[", i, "]");
    if (strings && element.is_string()) {
      out->emplace_back(std::string(std::string_view(element.get_string())));
    } else if (!strings && element.is_array()) {
      ReadTokenIds(fields, name, element.get_array(),
                   &std::get<1>(out->emplace_back(std::vector<TokenId>())));
    } else {
      fields.FailType(name, strings ? "a string" : "an array of token ids", element);
    }
  }
}

}  // namespace

absl::Status OpenAiRequest::InClientTerms(absl::Status error) const {
  const std::string param = ErrorParam(error);
  if (param == "max_tokens") return RenameParam(std::move(error), max_tokens_name);
  if (param == "logprobs" && chat) return RenameParam(std::move(error), "top_logprobs");
  return error;
}

absl::StatusOr<OpenAiRequest> ParseChatRequest(std::string_view body,
                                               const SamplingParams& defaults) {
  TRIREME_ASSIGN_OR_RETURN(const json::object object, ParseJsonBody(body));
  FieldReader fields(object);
  OpenAiRequest request;
  request.chat = true;
  request.text.base.sampling = defaults;
  ReadCommon(fields, &request);
  ReadMaxTokens(fields, &request);
  ReadChatLogprobs(fields, &request.text.base.sampling);
  ReadChatPrompt(fields, &request.text.input.emplace<ChatPrompt>());
  RefuseChatFields(fields);
  TRIREME_RETURN_IF_ERROR(fields.Finish());
  return request;
}

absl::StatusOr<OpenAiRequest> ParseCompletionRequest(std::string_view body,
                                                     const SamplingParams& defaults) {
  constexpr int kDefaultMaxTokens = 16;
  TRIREME_ASSIGN_OR_RETURN(const json::object object, ParseJsonBody(body));
  FieldReader fields(object);
  OpenAiRequest request;
  TextRequest& text = request.text;
  text.base.sampling = defaults;
  ReadCommon(fields, &request);
  ReadMaxTokens(fields, &request);
  if (!text.base.max_tokens) text.base.max_tokens = kDefaultMaxTokens;
  if (int top = 0; fields.Integer("logprobs", &top)) text.base.sampling.logprobs = top;
  ReadPrompts(fields, &text.input.emplace<std::vector<TextPrompt>>());
  fields.Bool("echo", &text.echo);
  text.base.sampling.prompt_logprobs = text.echo && text.base.sampling.logprobs.has_value();
  if (int best_of = 0; fields.Integer("best_of", &best_of)) text.best_of = best_of;
  if (request.stream && text.best_of.value_or(text.n) != text.n) {
    fields.Fail(InvalidParam("best_of", "'best_of' other than 'n' cannot be streamed."));
  }
  fields.RefuseUnless("suffix", "", kNotYet);
  fields.RefuseUnless("add_special_tokens", true, kNotYet);
  TRIREME_RETURN_IF_ERROR(fields.Finish());
  return request;
}

absl::StatusOr<TokenizeRequest> ParseTokenizeRequest(std::string_view body) {
  TRIREME_ASSIGN_OR_RETURN(const json::object object, ParseJsonBody(body));
  FieldReader fields(object);
  TokenizeRequest request;
  fields.String("model", &request.model);
  if (fields.Has("messages")) {
    ReadChatPrompt(fields, &request.input.emplace<ChatPrompt>());
    request.add_special_tokens = false;
    fields.RefuseUnless("add_special_tokens", false, "The chat template puts them.");
  } else {
    fields.Require("prompt");
    fields.String("prompt", &std::get<std::string>(request.input));
    fields.Bool("add_special_tokens", &request.add_special_tokens);
  }
  fields.Bool("return_token_strs", &request.return_token_strings);
  TRIREME_RETURN_IF_ERROR(fields.Finish());
  return request;
}

absl::StatusOr<DetokenizeRequest> ParseDetokenizeRequest(std::string_view body) {
  TRIREME_ASSIGN_OR_RETURN(const json::object object, ParseJsonBody(body));
  FieldReader fields(object);
  DetokenizeRequest request;
  fields.String("model", &request.model);
  fields.Require("tokens");
  if (const json::array* tokens = fields.Array("tokens")) {
    ReadTokenIds(fields, "tokens", *tokens, &request.tokens);
  }
  TRIREME_RETURN_IF_ERROR(fields.Finish());
  return request;
}

}  // namespace trireme::openai
