#include "server/loadgen/workload.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/base/status.h"

namespace trireme::loadgen {
namespace {

constexpr int kDefaultOutputTokens = 128;
constexpr uint64_t kPrefixSeed = 0x7072656669780000;  // the common beginning is every seed's

// Frequent words of four letters: one token each in the vocabularies of large models, and five
// bytes each for models of bytes, so that lengths come out as asked.
constexpr const char* kWords[] = {
    "that", "with", "from", "this", "have", "will", "your", "what", "when", "been", "made",
    "than", "them", "some", "time", "such", "only", "over", "also", "back", "most", "year",
    "work", "life", "down", "even", "here", "well", "many", "come", "take", "good", "part",
    "last", "hand", "find", "give", "keep", "same", "long", "side", "home", "next", "each",
    "both", "name", "line", "turn", "move", "help", "show", "play", "talk", "read", "open",
    "city", "road", "book", "room", "food", "idea", "game", "area", "week"};
constexpr uint64_t kNumWords = std::size(kWords);

std::string Words(int count, Random* random) {
  std::string text;
  text.reserve(static_cast<size_t>(count) * 5);
  for (int i = 0; i < count; ++i) {
    if (i > 0) text += ' ';
    text += kWords[random->Below(kNumWords)];
  }
  return text;
}

}  // namespace

absl::StatusOr<Workload> Workload::Make(const WorkloadOptions& options, uint64_t seed) {
  Workload workload(options, seed);
  if (!options.dataset_file.empty()) {
    TRIREME_ASSIGN_OR_RETURN(workload.dataset_, ReadDataset(options.dataset_file));
    // Fisher and Yates: runs with another seed see the prompts in another order.
    auto& prompts = workload.dataset_.prompts;
    for (size_t i = prompts.size() - 1; i > 0; --i) {
      std::swap(prompts[i], prompts[workload.random_.Below(i + 1)]);
    }
  }
  return workload;
}

int Workload::WordsOf(int tokens, double overhead_tokens) const {
  const double words = (tokens - overhead_tokens) / scale_.tokens_per_word;
  return std::max(1, static_cast<int>(std::lround(words)));
}

Request Workload::Probe(int words) {
  return {.messages = {{"user", Words(words, &random_)}},
          .max_tokens = 1,
          .ignore_eos = options_.ignore_eos};
}

Request Workload::Next() {
  Request request{.ignore_eos = options_.ignore_eos};
  std::optional<int> output_tokens;
  if (made_up()) {
    const int tokens = options_.prompt_tokens.Draw(&random_);
    request.messages = {{"user", Words(WordsOf(tokens, scale_.overhead_tokens), &random_)}};
  } else {
    const Prompt& prompt = dataset_.prompts[next_prompt_++ % dataset_.prompts.size()];
    request.messages = prompt.messages;
    output_tokens = prompt.output_tokens;
  }
  if (options_.output_tokens) output_tokens = options_.output_tokens->Draw(&random_);
  request.max_tokens = output_tokens.value_or(kDefaultOutputTokens);
  if (options_.shared_prefix_share > 0 && random_.Uniform() < options_.shared_prefix_share) {
    if (prefix_.empty()) {
      Random fixed(kPrefixSeed);
      prefix_ = Words(WordsOf(options_.shared_prefix_tokens, 0), &fixed) + " ";
    }
    request.messages.front().content.insert(0, prefix_);
  }
  return request;
}

}  // namespace trireme::loadgen
