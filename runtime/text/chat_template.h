// Chat templates: the Jinja program that a model ships, run by our own interpreter
// (runtime/text/jinja/).
#pragma once

#include <boost/json.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/text/tokenizer.h"

namespace trireme {

// What a template sees. Messages, tools and documents are JSON as the client sent them (already
// validated).
struct ChatTemplateInputs {
  boost::json::array messages;
  boost::json::array tools;   // empty: `tools` is none
  boost::json::object extra;  // chat_template_kwargs: further variables, e.g. enable_thinking
  bool add_generation_prompt = true;
  bool continue_final_message = false;
  std::string bos_token, eos_token;
  absl::Time now;  // strftime_now
};

struct RenderedPrompt {
  std::string text;
  // Ranges of `text` that came from strings of the request: they never form special tokens.
  std::vector<Tokenizer::ByteSpan> user_spans;
};

// Immutable, thread-safe. Fuel limits on steps, output bytes and recursion: RESOURCE_EXHAUSTED
// becomes a 400.
class ChatTemplate {
 public:
  // INVALID_ARGUMENT with row and column for unsupported or malformed syntax.
  static absl::StatusOr<std::unique_ptr<const ChatTemplate>> Compile(std::string source);
  virtual ~ChatTemplate() = default;
  // INVALID_ARGUMENT with the template's own words when it calls raise_exception.
  virtual absl::StatusOr<RenderedPrompt> Render(const ChatTemplateInputs& inputs) const = 0;
  virtual const std::string& source() const = 0;
};

}  // namespace trireme
