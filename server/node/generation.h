// From a door's request to text, and back: the one path that every dialect takes.
//
//   dialect --TextRequest--> Prepare (template, tokenize; on a worker) --> Start (engine) --> ChoiceDelta ...
//
// A TextRequest may stand for several engine requests: every prompt of a batch, times best_of.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/stream_decoder.h"
#include "server/node/node.h"

namespace trireme {

struct ChatPrompt {
  boost::json::array messages;  // OpenAI chat messages, shape already checked by the dialect
  boost::json::array tools;
  boost::json::object template_kwargs;
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};
using TextPrompt = std::variant<std::string, std::vector<TokenId>>;

struct TextRequest {
  std::string model;                                       // as the client spelt it
  std::variant<ChatPrompt, std::vector<TextPrompt>> input;  // chat, or a batch of prompts
  GenerateRequest base;                                    // everything but the prompt
  int n = 1;                                               // choices per prompt, 1..128
  std::optional<int> best_of;                              // >= n: the n best by mean logprob
  std::vector<std::string> stop;                           // stop strings
  bool include_stop_in_output = false;
  bool skip_special_tokens = true;
  bool echo = false;                                       // completions: prompt text first
};

// NOT_FOUND with code model_not_found when `model` is none of the node's names.
absl::Status CheckModel(const Node& node, std::string_view model);

// Text-level checks, template and tokenization. CPU-bound; call it on node.workers when the input is long.
// The results pass ValidateRequest already.
absl::StatusOr<std::vector<GenerateRequest>> Prepare(const Node& node, const TextRequest& request);

struct TokenText {
  std::string bytes;     // of the token; may be part of a code point
  float logprob = 0;
  std::vector<std::pair<std::string, float>> top;  // bytes, logprob; best first
  TokenId id = 0;
  std::vector<TokenId> top_ids;
};

// News of one choice. Text of one engine step (or of several, when the reader was slow), in order.
struct ChoiceDelta {
  int index = 0;                          // prompt * n + choice
  std::string text;                       // valid UTF-8
  std::vector<TokenText> tokens;          // filled when logprobs were asked for
  std::vector<TokenText> prompt_tokens;   // echo with logprobs: once, in the first delta
  std::vector<TokenId> token_ids;         // generated ids of this delta
  FinishReason finish = FinishReason::kNone;
  std::string matched_stop;
};

struct Usage {
  int prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
};

// All choices of one request. One reader at a time; destruction cancels what still runs.
class Generation {
 public:
  // Submits everything or nothing. Errors of Engine::Submit pass through.
  static absl::StatusOr<std::unique_ptr<Generation>> Start(Node& node, const TextRequest& request,
                                                           std::vector<GenerateRequest> prepared);
  ~Generation();

  // What has arrived; empty when nothing has. With best_of > n nothing arrives before all have finished.
  // An error ends the generation (the others are cancelled).
  absl::StatusOr<std::vector<ChoiceDelta>> TryNext();
  absl::StatusOr<std::vector<ChoiceDelta>> Next(absl::Time deadline);  // blocks for at least one delta
  void NotifyWhenReady(absl::AnyInvocable<void()> ready);              // as RequestStream's
  bool done() const;        // every choice has delivered its finish
  Usage usage() const;      // complete once done
  int num_choices() const;  // prompts * n

 private:
  struct Impl;
  explicit Generation(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme
