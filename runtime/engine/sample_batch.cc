#include "runtime/engine/sample_batch.h"

#include <algorithm>
#include <limits>

namespace trireme {

void SampleBatch::Clear() {
  requests_.clear();
  biases_.clear();
  bias_ends_.clear();
}

void SampleBatch::AddPromptToken(TokenId id, int num_top) {
  requests_.push_back({.num_top = num_top, .given = id});
  bias_ends_.push_back(biases_.size());
}

void SampleBatch::AddSample(const SamplerState& state, uint64_t position,
                            absl::Span<const TokenId> banned) {
  const SamplingParams& params = state.params();
  // A device looks for typical tokens by passes over the candidates, some fifty: quick among the
  // few that top_k leaves it, slower than the host among all. (How many min_p leaves nobody knows.)
  constexpr int kFew = 1024;
  const bool of_few = params.top_k > 0 && params.top_k <= kFew;
  requests_.push_back({.on_host = params.typical_p < 1 && !of_few,
                       .temperature = params.temperature,
                       .top_p = params.top_p,
                       .min_p = params.min_p,
                       .typical_p = params.typical_p,
                       .top_k = params.top_k,
                       .repetition_penalty = params.repetition_penalty,
                       .presence_penalty = params.presence_penalty,
                       .frequency_penalty = params.frequency_penalty,
                       .seed = state.seed(),
                       .position = position,
                       .num_top = params.logprobs.value_or(-1),
                       .penalties = state.has_penalties(),
                       .seen = state.seen()});
  constexpr float kBan = -std::numeric_limits<float>::infinity();
  // Each id once: what is banned needs no bias.
  banned_.clear();
  for (const TokenId id : banned) {
    if (id >= 0 && id < state.vocab_size()) banned_.push_back(id);
  }
  std::sort(banned_.begin(), banned_.end());
  banned_.erase(std::unique(banned_.begin(), banned_.end()), banned_.end());
  for (const TokenId id : banned_) biases_.push_back({id, kBan});
  for (const auto& [id, bias] : params.logit_bias) {
    if (std::binary_search(banned_.begin(), banned_.end(), id)) continue;
    biases_.push_back({id, bias <= kBanBias ? kBan : bias});
  }
  bias_ends_.push_back(biases_.size());
}

absl::Span<const SampleRequest> SampleBatch::Requests() {
  size_t begin = 0;
  for (size_t i = 0; i < requests_.size(); ++i) {
    requests_[i].biases = absl::MakeConstSpan(biases_).subspan(begin, bias_ends_[i] - begin);
    begin = bias_ends_[i];
  }
  return requests_;
}

}  // namespace trireme
