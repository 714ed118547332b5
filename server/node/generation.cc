#include "server/node/generation.h"

#include <algorithm>
#include <future>
#include <iterator>
#include <limits>
#include <mutex>
#include <numeric>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status.h"
#include "runtime/engine/refusals.h"

namespace trireme {
namespace {

constexpr absl::Duration kLongestWait =
    absl::Hours(24 * 365);  // below what the chrono types can hold

// One engine request: a choice, or with best_of one of those that may become one.
struct Candidate {
  std::optional<RequestStream> stream;  // empty once it has finished
  StreamDecoder decoder;
  StreamEvent event;                     // the last that came; keeps its memory
  ChoiceDelta delta;                     // news that has not been delivered yet
  std::vector<TokenText> prompt_tokens;  // gathered until the first token
  bool started = false;                  // the prompt's share has been put into `delta`
  RequestRecord record;                  // as it was when the stream was given up
  int num_tokens = 0;
  int num_cached_prompt_tokens = 0;
  double sum_logprobs = 0;

  bool has_news() const {
    return started && (!delta.token_ids.empty() || delta.finish != FinishReason::kNone);
  }
  void Close() {
    if (!stream) return;
    record = stream->record();
    stream.reset();
  }
  double mean_logprob() const {
    return num_tokens == 0 ? -std::numeric_limits<double>::infinity() : sum_logprobs / num_tokens;
  }
};

// A completion goes on from its prompt; an answer of a chat is a text of its own.
bool ContinuesText(const TextRequest& request) {
  const auto* chat = std::get_if<ChatPrompt>(&request.input);
  return chat == nullptr || chat->continue_final_message;
}

int CountCodePoints(std::string_view bytes) {
  return static_cast<int>(std::count_if(
      bytes.begin(), bytes.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

// Where each prompt token begins in `text`, the prompt as it is echoed, told by num_chars. A prompt
// may have tokens that are not in its text (bos), and its first may have a space before it that the
// text has not. Text that the tokenizer changed (normalization) is shared out by length.
void AlignWithText(std::string_view text, std::vector<TokenText>* tokens) {
  for (TokenText& token : *tokens) {
    std::string_view bytes = token.bytes;
    if (!text.starts_with(bytes) && bytes.starts_with(' ')) bytes.remove_prefix(1);
    size_t length = std::min(bytes.size(), text.size());
    if (!text.starts_with(bytes) && token.special) length = 0;
    token.num_chars = CountCodePoints(text.substr(0, length));
    text.remove_prefix(length);
  }
  if (!tokens->empty()) tokens->back().num_chars += CountCodePoints(text);
}

// Makes one callback of the news of many streams.
class Gatherer {
 public:
  explicit Gatherer(absl::AnyInvocable<void()> ready) : ready_(std::move(ready)) {}

  // Any thread, any number of times.
  void News() { Fire(/*arm=*/false, /*news=*/true); }
  // Before this nothing fires: the caller is still busy with the streams, and `ready` lets another
  // thread use them.
  void Arm() { Fire(/*arm=*/true, /*news=*/false); }

 private:
  void Fire(bool arm, bool news) {
    absl::AnyInvocable<void()> ready;
    {
      std::lock_guard lock(mu_);
      armed_ |= arm;
      news_ |= news;
      if (armed_ && news_) ready = std::exchange(ready_, nullptr);
    }
    if (ready) ready();
  }

  std::mutex mu_;
  bool armed_ = false;                // guarded by mu_
  bool news_ = false;                 // guarded by mu_
  absl::AnyInvocable<void()> ready_;  // guarded by mu_; empty once called
};

}  // namespace

struct Generation::Impl {
  // Constant after Start.
  const Tokenizer* tokenizer = nullptr;
  const Clock* clock = nullptr;
  int n = 1;
  int candidates_per_prompt = 1;
  bool wants_logprobs = false;
  bool include_stop = false;
  bool skip_special = true;
  std::vector<std::string> echo;  // per prompt; empty: no echo
  std::vector<std::optional<TokenId>>
      first;  // per prompt: its first token, where prompt logprobs are wanted

  // Reader only.
  std::vector<Candidate> candidates;   // those of a prompt side by side
  size_t num_undelivered = 0;          // candidates whose finish has not been delivered
  std::vector<FinishReason> finishes;  // of choices, as far as they were delivered
  Usage usage;
  absl::Status error;
  std::vector<ChoiceDelta> deltas;  // what TryNext returns is the first num_deltas of them
  size_t num_deltas = 0;

  void Describe(const SampledToken& token, std::vector<TokenText>* out) const;
  void Digest(size_t index);
  void DigestPrompt(StreamEvent* event, size_t index);
  void DigestTokens(const StreamEvent& event, Candidate* candidate);
  void End(absl::Status why);
  void Deliver(size_t index, int choice);
  void DeliverBest(size_t prompt);
};

void Generation::Impl::Describe(const SampledToken& token, std::vector<TokenText>* out) const {
  TokenText& text = out->emplace_back();
  text.id = token.id;
  text.bytes = std::string(tokenizer->TokenBytes(token.id));
  text.special = tokenizer->IsSpecial(token.id);
  text.num_chars = text.special && skip_special ? 0 : CountCodePoints(text.bytes);
  text.logprob = token.logprob;
  for (const TokenLogprob& top : token.top) {
    text.top_ids.push_back(top.id);
    text.top.emplace_back(std::string(tokenizer->TokenBytes(top.id)), top.logprob);
  }
}

// Takes in what one stream brought, its `event`.
void Generation::Impl::Digest(size_t index) {
  Candidate& candidate = candidates[index];
  StreamEvent& event = candidate.event;
  if (event.finish == FinishReason::kError || event.finish == FinishReason::kDeadline) {
    End(event.error.ok() ? absl::InternalError("the request failed") : std::move(event.error));
    return;
  }
  if (event.finish == FinishReason::kCancelled) {
    // Nobody on this side reads on after cancelling: the engine is being destroyed.
    End(ShuttingDown());
    return;
  }
  if (event.num_cached_prompt_tokens > 0 && index % candidates_per_prompt == 0) {
    usage.cached_tokens += event.num_cached_prompt_tokens - candidate.num_cached_prompt_tokens;
    candidate.num_cached_prompt_tokens = event.num_cached_prompt_tokens;
  }
  if (!candidate.started) DigestPrompt(&event, index);
  DigestTokens(event, &candidate);
  if (candidate.delta.finish == FinishReason::kNone) return;
  // At a stop string the engine knows nothing of the end yet. (Without effect if it does.)
  candidate.stream->Cancel(FinishReason::kStop);
  candidate.Close();
}

// Before the first token: gathers prompt logprobs. With it: the echo, then everything gathered.
void Generation::Impl::DigestPrompt(StreamEvent* event, size_t index) {
  Candidate& candidate = candidates[index];
  const size_t prompt = index / static_cast<size_t>(candidates_per_prompt);
  if (first[prompt]) {
    if (candidate.prompt_tokens.empty()) Describe({.id = *first[prompt]}, &candidate.prompt_tokens);
    for (const SampledToken& token : event->prompt_logprobs) {
      Describe(token, &candidate.prompt_tokens);
    }
  }
  if (event->tokens.empty() && event->finish == FinishReason::kNone) return;
  candidate.started = true;
  candidate.delta.prompt_tokens = std::move(candidate.prompt_tokens);
  if (echo.empty()) return;
  candidate.delta.text = echo[prompt];
  AlignWithText(echo[prompt], &candidate.delta.prompt_tokens);
}

void Generation::Impl::DigestTokens(const StreamEvent& event, Candidate* candidate) {
  ChoiceDelta& delta = candidate->delta;
  for (size_t i = 0; i < event.tokens.size() && !candidate->decoder.stopped(); ++i) {
    const SampledToken& token = event.tokens[i];
    ++candidate->num_tokens;
    ++usage.completion_tokens;
    candidate->sum_logprobs += token.logprob;
    delta.token_ids.push_back(token.id);
    // The engine's kStop means that the last token is a stop token: it ends the text without being
    // part of it.
    const bool hidden =
        event.finish == FinishReason::kStop && i + 1 == event.tokens.size() && !include_stop;
    if (hidden) continue;
    if (wants_logprobs) Describe(token, &delta.tokens);
    delta.text += candidate->decoder.Push(token.id);
  }
  if (event.finish != FinishReason::kNone && !candidate->decoder.stopped()) {
    delta.finish = event.finish;
    delta.text += candidate->decoder.Finish();  // may complete a stop string, too
  }
  if (candidate->decoder.stopped()) {
    delta.finish = FinishReason::kStop;
    delta.matched_stop = candidate->decoder.matched_stop();
  }
}

void Generation::Impl::End(absl::Status why) {
  error = std::move(why);
  for (Candidate& candidate : candidates) candidate.Close();
}

void Generation::Impl::Deliver(size_t index, int choice) {
  if (num_deltas == deltas.size()) deltas.emplace_back();
  ChoiceDelta& delta = deltas[num_deltas++];
  delta.Clear();
  std::swap(delta, candidates[index].delta);
  delta.index = choice;
  finishes[static_cast<size_t>(choice)] = delta.finish;
}

// With best_of > n: the n best candidates of a prompt by mean logprob, once all of them have
// finished.
void Generation::Impl::DeliverBest(size_t prompt) {
  std::vector<size_t> ranking(static_cast<size_t>(candidates_per_prompt));
  std::iota(ranking.begin(), ranking.end(), prompt * ranking.size());
  for (size_t index : ranking) {
    if (candidates[index].delta.finish == FinishReason::kNone)
      return;  // running, or delivered long ago
  }
  std::stable_sort(ranking.begin(), ranking.end(), [this](size_t a, size_t b) {
    return candidates[a].mean_logprob() > candidates[b].mean_logprob();
  });
  for (int choice = 0; choice < n; ++choice) {
    Deliver(ranking[static_cast<size_t>(choice)], static_cast<int>(prompt) * n + choice);
  }
  for (size_t index : ranking) candidates[index].delta = {};
  num_undelivered -= ranking.size();
}

void ChoiceDelta::Clear() {
  text.clear();
  tokens.clear();
  prompt_tokens = {};  // come once, and may be many
  token_ids.clear();
  finish = FinishReason::kNone;
  matched_stop.clear();
  index = 0;
}

absl::StatusOr<std::unique_ptr<Generation>> Generation::Start(
    Node& node, const TextRequest& request, std::vector<GenerateRequest> prepared) {
  auto impl = std::make_unique<Impl>();
  impl->tokenizer = node.tokenizer.get();
  impl->clock = node.clock;
  impl->n = request.n;
  impl->candidates_per_prompt = request.best_of.value_or(request.n);
  impl->wants_logprobs = request.base.sampling.logprobs.has_value();
  impl->include_stop = request.include_stop_in_output;
  impl->skip_special = request.skip_special_tokens;
  const size_t per_prompt = static_cast<size_t>(impl->candidates_per_prompt);
  const size_t num_prompts = prepared.size() / per_prompt;
  TRIREME_CHECK(num_prompts * per_prompt == prepared.size() && num_prompts > 0);

  const auto* prompts = std::get_if<std::vector<TextPrompt>>(&request.input);
  for (size_t p = 0; p < num_prompts; ++p) {
    const GenerateRequest& head = prepared[p * per_prompt];
    impl->usage.prompt_tokens += static_cast<int>(head.prompt.size());
    impl->first.push_back(head.sampling.prompt_logprobs ? std::optional(head.prompt[0])
                                                        : std::nullopt);
    if (!request.echo || prompts == nullptr) continue;
    const auto* text = std::get_if<std::string>(&(*prompts)[p]);
    // Special tokens that the client wrote are shown, as they are in a prompt of text.
    impl->echo.push_back(text ? *text
                              : node.tokenizer->Decode(head.prompt, /*skip_special=*/false));
  }

  const StreamDecoder::Options decoding = {.stop = request.stop,
                                           .include_stop = request.include_stop_in_output,
                                           .skip_special = request.skip_special_tokens,
                                           .min_tokens = request.base.min_tokens,
                                           .continues_text = ContinuesText(request)};
  for (GenerateRequest& engine_request : prepared) {
    TRIREME_ASSIGN_OR_RETURN(RequestStream stream, node.engine->Submit(std::move(engine_request)));
    impl->candidates.push_back(
        {.stream = std::move(stream), .decoder = StreamDecoder(impl->tokenizer, decoding)});
  }
  impl->num_undelivered = impl->candidates.size();
  impl->finishes.resize(num_prompts * static_cast<size_t>(impl->n), FinishReason::kNone);
  return std::unique_ptr<Generation>(new Generation(std::move(impl)));
}

Generation::Generation(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Generation::~Generation() = default;

absl::StatusOr<absl::Span<ChoiceDelta>> Generation::TryNext() {
  Impl& impl = *impl_;
  impl.num_deltas = 0;
  for (size_t i = 0; i < impl.candidates.size(); ++i) {
    Candidate& candidate = impl.candidates[i];
    if (candidate.stream && candidate.stream->TryNext(&candidate.event)) impl.Digest(i);
  }
  if (!impl.error.ok()) return impl.error;

  if (impl.candidates_per_prompt > impl.n) {
    for (size_t prompt = 0; prompt < impl.first.size(); ++prompt) impl.DeliverBest(prompt);
  } else {
    for (size_t i = 0; i < impl.candidates.size(); ++i) {
      if (!impl.candidates[i].has_news()) continue;
      impl.Deliver(i, static_cast<int>(i));
      if (impl.finishes[i] != FinishReason::kNone) --impl.num_undelivered;
    }
  }
  return absl::MakeSpan(impl.deltas).first(impl.num_deltas);
}

absl::StatusOr<std::vector<ChoiceDelta>> Generation::Next(absl::Time deadline) {
  for (;;) {
    absl::StatusOr<absl::Span<ChoiceDelta>> deltas = TryNext();
    if (!deltas.ok()) return deltas.status();
    if (!deltas->empty() || done()) {
      return std::vector<ChoiceDelta>(std::make_move_iterator(deltas->begin()),
                                      std::make_move_iterator(deltas->end()));
    }
    auto ready = std::make_shared<std::promise<void>>();
    NotifyWhenReady([ready] { ready->set_value(); });
    const absl::Duration patience = std::min(deadline - impl_->clock->Now(), kLongestWait);
    if (ready->get_future().wait_for(absl::ToChronoNanoseconds(patience)) ==
        std::future_status::timeout) {
      return absl::DeadlineExceededError("nothing arrived in time");
    }
  }
}

void Generation::NotifyWhenReady(absl::AnyInvocable<void()> ready) {
  if (impl_->candidates.size() == 1 && impl_->candidates[0].stream && !done()) {
    impl_->candidates[0].stream->NotifyWhenReady(std::move(ready));
    return;
  }
  auto gatherer = std::make_shared<Gatherer>(std::move(ready));
  if (done()) gatherer->News();
  for (Candidate& candidate : impl_->candidates) {
    if (candidate.stream) candidate.stream->NotifyWhenReady([gatherer] { gatherer->News(); });
  }
  gatherer->Arm();
}

void Generation::Cancel(absl::Status why) {
  if (!done()) impl_->End(std::move(why));
}

bool Generation::done() const { return impl_->num_undelivered == 0 || !impl_->error.ok(); }
Usage Generation::usage() const { return impl_->usage; }

RequestRecord Generation::record() const {
  // Adds `time` to what has happened so far, if it has happened.
  const auto earliest = [](absl::Time time, absl::Time* out) {
    if (time > absl::UnixEpoch() && (*out == absl::UnixEpoch() || time < *out)) *out = time;
  };
  RequestRecord all;
  for (const Candidate& candidate : impl_->candidates) {
    const RequestRecord one = candidate.stream ? candidate.stream->record() : candidate.record;
    earliest(one.arrival, &all.arrival);
    earliest(one.first_scheduled, &all.first_scheduled);
    earliest(one.first_token, &all.first_token);
    all.last_token = std::max(all.last_token, one.last_token);
    all.finished = std::max(all.finished, one.finished);
    all.preemptions += one.preemptions;
  }
  all.prompt_tokens = impl_->usage.prompt_tokens;
  all.cached_prompt_tokens = impl_->usage.cached_tokens;
  all.generated_tokens = impl_->usage.completion_tokens;
  return all;
}

std::vector<FinishReason> Generation::finish_reasons() const { return impl_->finishes; }

int Generation::num_choices() const { return static_cast<int>(impl_->first.size()) * impl_->n; }

}  // namespace trireme
