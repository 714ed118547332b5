#include "server/dialects/openai/responses.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/base/json_writer.h"
#include "runtime/text/utf8.h"

namespace trireme::openai {
namespace {

// How OpenAI writes the logprob of an impossible token.
constexpr float kLowestLogprob = -9999.0f;

float Finite(float logprob) { return logprob >= kLowestLogprob ? logprob : kLowestLogprob; }

// A token's text as a key of /v1/completions: one that is no UTF-8 by itself is spelt
// "bytes:\xe2\x80", as OpenAI does, so that different tokens stay different keys.
std::string TokenKey(std::string_view bytes) {
  std::string text = LossyUtf8(bytes);
  if (text == bytes) return text;
  constexpr char kHex[] = "0123456789abcdef";
  text = "bytes:";
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    text += "\\x";
    text += kHex[byte >> 4];
    text += kHex[byte & 15];
  }
  return text;
}

void AppendHeader(JsonWriter& json, const AnswerHeader& header, std::string_view object) {
  json.Key("id").String(header.id);
  json.Key("object").String(object);
  json.Key("created").Int(header.created);
  json.Key("model").String(header.model);
  json.Key("system_fingerprint").String(header.system_fingerprint);
}

void AppendChatToken(JsonWriter& json, std::string_view bytes, float logprob) {
  json.Key("token").String(LossyUtf8(bytes));
  json.Key("logprob").Float(Finite(logprob));
  json.Key("bytes").BeginArray();
  for (const char c : bytes) json.Int(static_cast<uint8_t>(c));
  json.EndArray();
}

// The alternatives and the token itself, best first, each once: {"text": logprob, ...}. The token
// has the very number that token_logprobs has, which is what greedy checks compare.
void AppendTop(JsonWriter& json, const TokenText& token) {
  const std::string own = TokenKey(token.bytes);
  std::vector<std::string> seen;
  bool own_written = false;
  json.BeginObject();
  for (size_t i = 0; i < token.top.size(); ++i) {
    const bool is_own = i < token.top_ids.size() && token.top_ids[i] == token.id;
    std::string key = is_own ? own : TokenKey(token.top[i].first);
    // Another token of the same text gives way to the chosen one.
    if ((!is_own && key == own) || std::find(seen.begin(), seen.end(), key) != seen.end()) continue;
    json.Key(key).Float(Finite(is_own ? token.logprob : token.top[i].second));
    own_written |= is_own;
    seen.push_back(std::move(key));
  }
  if (!own_written) json.Key(own).Float(Finite(token.logprob));
  json.EndObject();
}

void AppendFinish(JsonWriter& json, FinishReason reason) {
  json.Key("finish_reason");
  if (reason == FinishReason::kNone) {
    json.Null();
  } else {
    json.String(FinishName(reason));
  }
}

}  // namespace

std::string_view FinishName(FinishReason reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

void AppendUsage(std::string* out, const Usage& usage) {
  JsonWriter json(out);
  json.BeginObject();
  json.Key("prompt_tokens").Int(usage.prompt_tokens);
  json.Key("completion_tokens").Int(usage.completion_tokens);
  json.Key("total_tokens").Int(int64_t{usage.prompt_tokens} + usage.completion_tokens);
  json.Key("prompt_tokens_details").BeginObject();
  json.Key("cached_tokens").Int(usage.cached_tokens);
  json.Key("audio_tokens").Int(0).EndObject();
  json.Key("completion_tokens_details").BeginObject();
  json.Key("reasoning_tokens").Int(0);
  json.Key("audio_tokens").Int(0);
  json.Key("accepted_prediction_tokens").Int(0);
  json.Key("rejected_prediction_tokens").Int(0).EndObject();
  json.EndObject();
}

void AppendCompletionLogprobs(std::string* out, const std::vector<TokenText>& prompt,
                              const std::vector<TokenText>& tokens, int64_t* text_offset) {
  std::vector<const TokenText*> all;
  for (const TokenText& token : prompt) all.push_back(&token);
  for (const TokenText& token : tokens) all.push_back(&token);
  // Nothing precedes the first token of a prompt: it has no probability.
  const TokenText* const unconditioned = prompt.empty() ? nullptr : &prompt.front();
  JsonWriter json(out);
  json.BeginObject();
  json.Key("tokens").BeginArray();
  for (const TokenText* token : all) json.String(TokenKey(token->bytes));
  json.EndArray().Key("token_logprobs").BeginArray();
  for (const TokenText* token : all) {
    if (token == unconditioned) {
      json.Null();
    } else {
      json.Float(Finite(token->logprob));
    }
  }
  json.EndArray().Key("top_logprobs").BeginArray();
  for (const TokenText* token : all) {
    if (token == unconditioned) {
      json.Null();
    } else {
      AppendTop(json, *token);
    }
  }
  json.EndArray().Key("text_offset").BeginArray();
  for (const TokenText* token : all) {
    json.Int(*text_offset);
    *text_offset += token->num_chars;
  }
  json.EndArray().EndObject();
}

void AppendChatLogprobs(std::string* out, const std::vector<TokenText>& tokens) {
  JsonWriter json(out);
  json.BeginObject().Key("content").BeginArray();
  for (const TokenText& token : tokens) {
    json.BeginObject();
    AppendChatToken(json, token.bytes, token.logprob);
    json.Key("top_logprobs").BeginArray();
    for (const auto& [bytes, logprob] : token.top) {
      json.BeginObject();
      AppendChatToken(json, bytes, logprob);
      json.EndObject();
    }
    json.EndArray().EndObject();
  }
  json.EndArray().Key("refusal").Null().EndObject();
}

AnswerBuilder::AnswerBuilder(AnswerHeader header, int num_choices, bool logprobs)
    : header_(std::move(header)), logprobs_(logprobs), choices_(static_cast<size_t>(num_choices)) {}

void AnswerBuilder::Add(ChoiceDelta delta) {
  Choice& choice = choices_.at(static_cast<size_t>(delta.index));
  choice.text += delta.text;
  std::move(delta.tokens.begin(), delta.tokens.end(), std::back_inserter(choice.tokens));
  std::move(delta.prompt_tokens.begin(), delta.prompt_tokens.end(),
            std::back_inserter(choice.prompt_tokens));
  if (delta.finish != FinishReason::kNone) choice.finish = delta.finish;
}

std::string AnswerBuilder::Finish(const Usage& usage) const {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject();
  AppendHeader(json, header_, header_.chat ? "chat.completion" : "text_completion");
  json.Key("choices").BeginArray();
  for (size_t i = 0; i < choices_.size(); ++i) {
    const Choice& choice = choices_[i];
    json.BeginObject().Key("index").Int(static_cast<int64_t>(i));
    if (header_.chat) {
      json.Key("message").BeginObject().Key("role").String("assistant");
      json.Key("content").String(choice.text).Key("refusal").Null().EndObject();
    } else {
      json.Key("text").String(choice.text);
    }
    std::string logprobs = "null";
    if (logprobs_) {
      logprobs.clear();
      int64_t text_offset = 0;
      if (header_.chat) {
        AppendChatLogprobs(&logprobs, choice.tokens);
      } else {
        AppendCompletionLogprobs(&logprobs, choice.prompt_tokens, choice.tokens, &text_offset);
      }
    }
    json.Key("logprobs").Raw(logprobs);
    AppendFinish(json, choice.finish);
    json.EndObject();
  }
  std::string usage_json;
  AppendUsage(&usage_json, usage);
  json.EndArray().Key("usage").Raw(usage_json).EndObject();
  return out;
}

ChunkWriter::ChunkWriter(const AnswerHeader& header, int num_choices, bool logprobs,
                         bool include_usage)
    : chat_(header.chat), logprobs_(logprobs), choices_(static_cast<size_t>(num_choices)) {
  prefix_ = "data: ";
  JsonWriter json(&prefix_);
  json.BeginObject();
  AppendHeader(json, header, chat_ ? "chat.completion.chunk" : "text_completion");
  json.Key("choices").BeginArray();
  suffix_ = include_usage ? "],\"usage\":null}\n\n" : "]}\n\n";
}

void ChunkWriter::Append(std::string* out, const ChoiceDelta& delta) {
  Choice& choice = choices_.at(static_cast<size_t>(delta.index));
  const bool plain = choice.started && !logprobs_ && delta.finish == FinishReason::kNone;
  if (!plain) {
    AppendWhole(out, delta);
    return;
  }
  if (choice.before_text.empty()) {  // such a chunk of no text, cut in two where text belongs
    const size_t cut = AppendWhole(&choice.before_text, {.index = delta.index});
    choice.after_text = choice.before_text.substr(cut + std::strlen("\"\""));
    choice.before_text.resize(cut);
  }
  *out += choice.before_text;
  AppendJsonString(out, delta.text);
  *out += choice.after_text;
}

// Returns where in `out` the text's JSON string begins.
size_t ChunkWriter::AppendWhole(std::string* out, const ChoiceDelta& delta) {
  Choice& choice = choices_.at(static_cast<size_t>(delta.index));
  *out += prefix_;
  JsonWriter json(out);
  json.BeginObject().Key("index").Int(delta.index);
  if (chat_) {
    json.Key("delta").BeginObject();
    if (!choice.started) json.Key("role").String("assistant");
  }
  json.Key(chat_ ? "content" : "text");
  const size_t text_at = out->size();
  json.String(delta.text);
  if (chat_) {
    if (!choice.started) json.Key("refusal").Null();
    json.EndObject();
  }
  choice.started = true;
  json.Key("logprobs");
  // A chunk without tokens (a released tail of text) has none.
  if (!logprobs_ || (delta.tokens.empty() && delta.prompt_tokens.empty())) {
    json.Null();
  } else if (std::string logprobs; chat_) {
    AppendChatLogprobs(&logprobs, delta.tokens);
    json.Raw(logprobs);
  } else {
    AppendCompletionLogprobs(&logprobs, delta.prompt_tokens, delta.tokens, &choice.text_offset);
    json.Raw(logprobs);
  }
  AppendFinish(json, delta.finish);
  json.EndObject();
  *out += suffix_;
  return text_at;
}

void ChunkWriter::AppendUsageChunk(std::string* out, const Usage& usage) const {
  *out += prefix_;
  *out += "],\"usage\":";
  AppendUsage(out, usage);
  *out += "}\n\n";
}

std::string ErrorEvent(std::string_view error_body) {
  std::string event = "data: ";
  event += error_body;
  event += "\n\n";
  return event;
}

}  // namespace trireme::openai
