// From a door's request to text, and back: the one path that every dialect takes.
//
//   dialect --TextRequest--> Prepare (template, tokenize; on a worker)
//           --GenerateRequest...--> Start (engine) --ChoiceDelta...--> dialect
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
#include "absl/types/span.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/stream_decoder.h"
#include "server/node/node.h"

namespace trireme {

// Limits of one door request; those of each engine request are in runtime/engine/request.h.
inline constexpr int kMaxChoices = 128;  // n
inline constexpr int kMaxBestOf = 20;
inline constexpr size_t kMaxStopStrings = 4;
inline constexpr size_t kMaxStopBytes = 1024;  // of each stop string
inline constexpr size_t kMaxPrompts = 256;     // in one batch
// Prompt logprobs, alternatives included, over all prompts and choices: about 100 MB.
inline constexpr int64_t kMaxPromptLogprobs = 1 << 21;

struct ChatPrompt {
  boost::json::array messages;  // OpenAI chat messages, shape already checked by the dialect
  boost::json::array tools;
  boost::json::object template_kwargs;
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};
using TextPrompt = std::variant<std::string, std::vector<TokenId>>;

struct TextRequest {
  std::string model;  // as the client spelt it; empty: the served one
  std::variant<ChatPrompt, std::vector<TextPrompt>> input;  // chat, or a batch of prompts
  GenerateRequest base;                                     // everything but the prompt
  int n = 1;                                                // choices per prompt, 1..128
  std::optional<int> best_of;                               // n..20: the n best by mean logprob
  std::vector<std::string> stop;                            // stop strings, at most 4
  bool include_stop_in_output = false;                      // the stop string or stop token's text
  bool skip_special_tokens = true;
  bool echo = false;  // completions: prompt text first
  // Whether the caller may ask for a priority below 0, which goes before everybody's requests.
  bool may_raise_priority = false;
};

// NOT_FOUND with code model_not_found when `model` is none of the node's names.
absl::Status CheckModel(const Node& node, std::string_view model);

// Requests of more bytes than this are long work for node.workers.
inline constexpr size_t kLongRequestBytes = 256 << 10;
inline WorkerPool::Length LengthOfWork(size_t request_bytes) {
  return request_bytes > kLongRequestBytes ? WorkerPool::Length::kLong : WorkerPool::Length::kShort;
}

// What a door answers when node.workers takes nothing more: Overloaded (runtime/engine/refusals.h).
absl::Status WorkersBusy();

// The ids of `text`, special tokens recognised. INVALID_ARGUMENT (`param`, context_length_exceeded)
// for text that cannot fit the context however it is tokenized: it is not tokenized, so the work is
// bounded by the context. CPU-bound; thread-safe.
absl::StatusOr<std::vector<TokenId>> EncodeText(const Node& node, std::string_view text,
                                                std::string_view param, bool add_special);

// The text of `ids`. INVALID_ARGUMENT (`param`, invalid_token_id) for one outside the vocabulary.
// CPU-bound; thread-safe.
absl::StatusOr<std::string> DecodeTokens(const Node& node, absl::Span<const TokenId> ids,
                                         std::string_view param, bool skip_special);

// Text-level checks, template and tokenization. CPU-bound; call it on node.workers when the input
// is long. Thread-safe. One engine request per prompt and candidate (best_of, or n), those of a
// prompt side by side; they have passed ValidateRequest. With a seed, candidate i of every prompt
// gets seed + i. Special tokens are recognised in the template's own text and in completion prompts
// (whose writers mean them), never in what a chat message says. Errors, with param:
// INVALID_ARGUMENT; NOT_FOUND (model); PERMISSION_DENIED (code priority_not_allowed).
absl::StatusOr<std::vector<GenerateRequest>> Prepare(const Node& node, const TextRequest& request);

struct TokenText {
  std::string bytes;                               // of the token; may be part of a code point
  float logprob = 0;                               // meaningless for the first token of a prompt
  std::vector<std::pair<std::string, float>> top;  // bytes, logprob; best first
  TokenId id = 0;
  std::vector<TokenId> top_ids;
  bool special = false;
  // Code points of the choice's text that begin in this token (0 for a special token that is not
  // shown): over all tokens before it they sum up to where its text begins.
  int num_chars = 0;
};

// News of one choice. Text of one engine step (or of several, when the reader was slow), in order.
struct ChoiceDelta {
  int index = 0;  // prompt * n + choice
  // Valid UTF-8; empty while an unfinished character or what may become a stop string is held.
  std::string text;
  // When logprobs were asked for: of the tokens that are shown, so not of a hidden stop token.
  std::vector<TokenText> tokens;
  // When prompt logprobs were asked for: all prompt tokens, once, in the first delta.
  std::vector<TokenText> prompt_tokens;
  std::vector<TokenId> token_ids;  // generated ids of this delta, a stop token included
  FinishReason finish = FinishReason::kNone;
  std::string matched_stop;

  // As it was made, but for memory that the next tokens can use.
  void Clear();
};

// Prompts count once each, whatever n; completion tokens over all candidates, those that best_of
// dropped included.
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

  // What has arrived, at most one delta per choice; empty when nothing has. The deltas are the
  // caller's, to move from, too, until the next call, which uses their memory again. With best_of >
  // n the choices of a prompt arrive when all its candidates have finished. An error ends the
  // generation: the rest is cancelled, and every later call gets the same error. A reader that the
  // engine gave up for being too slow gets RESOURCE_EXHAUSTED with code slow_reader; no delta says
  // kCancelled.
  absl::StatusOr<absl::Span<ChoiceDelta>> TryNext();
  // Blocks for at least one delta; DEADLINE_EXCEEDED (by node.clock). Empty once done.
  absl::StatusOr<std::vector<ChoiceDelta>> Next(absl::Time deadline);
  // Calls `ready` exactly once, when TryNext should be called: at once or from the engine thread.
  // The news may turn out to hold no delta (a part of a long prompt's logprobs). Else as
  // RequestStream::NotifyWhenReady.
  void NotifyWhenReady(absl::AnyInvocable<void()> ready);
  // Ends it, unless it is done: the rest is cancelled at once, and TryNext returns `why` from now
  // on. A pending `ready` may never be called.
  void Cancel(absl::Status why);
  bool done() const;        // every choice has delivered its finish, or an error was returned
  Usage usage() const;      // complete once done
  int num_choices() const;  // prompts * n
  // What the engine has noted of all candidates together: the earliest arrival and first token, the
  // latest last token; counts as in usage(). `finish` is unset.
  RequestRecord record() const;
  // Of each candidate, best_of's included; kNone: it had not finished.
  std::vector<FinishReason> finish_reasons() const;

 private:
  struct Impl;
  explicit Generation(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme
