// Answers of /v1/chat/completions and /v1/completions, whole or as server-sent events. Pure text:
// no sockets.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/node/generation.h"

namespace trireme::openai {

// What every chunk and answer of one request repeats.
struct AnswerHeader {
  bool chat = false;
  std::string id;       // chatcmpl-... or cmpl-...
  int64_t created = 0;  // Unix seconds
  std::string model;    // as the client spelt it
  std::string system_fingerprint;
};

constexpr std::string_view kStreamEnd = "data: [DONE]\n\n";
constexpr std::string_view kHeartbeat = ": ping\n\n";

// "stop" or "length"; a generation that ends otherwise is an error, not an answer.
std::string_view FinishName(FinishReason reason);

// {"prompt_tokens":...,"completion_tokens":...,"total_tokens":..., details}
void AppendUsage(std::string* out, const Usage& usage);

// The `logprobs` object of /v1/completions. Offsets count code points of the choice's text, which
// continues at
// `*text_offset`; it moves on.
void AppendCompletionLogprobs(std::string* out, const std::vector<TokenText>& prompt,
                              const std::vector<TokenText>& tokens, int64_t* text_offset);
// The `logprobs` object of chat.
void AppendChatLogprobs(std::string* out, const std::vector<TokenText>& tokens);

// Collects the deltas of all choices into one body.
class AnswerBuilder {
 public:
  AnswerBuilder(AnswerHeader header, int num_choices, bool logprobs);
  void Add(ChoiceDelta delta);
  std::string Finish(const Usage& usage) const;

 private:
  struct Choice {
    std::string text;
    std::vector<TokenText> tokens, prompt_tokens;
    FinishReason finish = FinishReason::kNone;
  };
  const AnswerHeader header_;
  const bool logprobs_;
  std::vector<Choice> choices_;
};

// Turns deltas into `data: {...}\n\n`. The role comes with a choice's first token, so that the
// first chunk a client sees is the first token.
class ChunkWriter {
 public:
  ChunkWriter(const AnswerHeader& header, int num_choices, bool logprobs, bool include_usage);
  void Append(std::string* out, const ChoiceDelta& delta);
  void AppendUsageChunk(std::string* out, const Usage& usage) const;  // only with include_usage

 private:
  struct Choice {
    bool started = false;
    int64_t text_offset = 0;
    std::string before_text, after_text;  // of most chunks; empty: not made yet
  };
  size_t AppendWhole(std::string* out, const ChoiceDelta& delta);

  const bool chat_, logprobs_;
  std::string prefix_;  // up to the array of choices
  std::string suffix_;  // from the end of the array
  std::vector<Choice> choices_;
};

// One SSE event with an error body; nothing follows it.
std::string ErrorEvent(std::string_view error_body);

}  // namespace trireme::openai
