// What a backend that samples is asked for each row of a step's logits.
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "runtime/backend/sampling.h"
#include "runtime/engine/sampler.h"

namespace trireme {

// Kept from step to step for its memory. Used by one thread.
class SampleBatch {
 public:
  void Clear();
  // A prompt's token: its logprob and the `num_top` best.
  void AddPromptToken(TokenId id, int num_top);
  // As Sampler::Sample. What is slow on a device (typical_p of all tokens) is left to the host. The
  // state is not needed after the backend's Sample.
  void AddSample(const SamplerState& state, uint64_t position, absl::Span<const TokenId> banned);
  // Until the next call of another function.
  absl::Span<const SampleRequest> Requests();

 private:
  std::vector<SampleRequest> requests_;
  std::vector<TokenBias> biases_;  // of all requests
  std::vector<size_t> bias_ends_;  // of each request in biases_
  std::vector<TokenId> banned_;
};

}  // namespace trireme
