// What one event of a streamed OpenAI answer says, without building a tree for each token.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace trireme::loadgen {

struct TokenUsage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt
};

struct AnswerEvent {
  bool valid = false;     // JSON, or the closing [DONE]
  bool done = false;      // [DONE]
  bool has_text = false;  // text, content or reasoning that is not empty: a token event
  bool finished = false;  // a choice has a finish_reason
  bool has_usage = false;
  TokenUsage usage;
  bool has_error = false;
  std::string error_message;
};

// Of chat completions and completions. Not thread-safe.
class AnswerScanner {
 public:
  AnswerScanner();
  ~AnswerScanner();
  AnswerScanner(AnswerScanner&&) noexcept;

  // `data` of one server-sent event. The result is good until the next call.
  const AnswerEvent& Scan(std::string_view data);

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace trireme::loadgen
