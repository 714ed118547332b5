// A backend that samples, as a device does: from the requests alone, which it takes apart by other
// means than the Sampler. It leaves every row to the host that it is asked to, and those whose
// parameters it has no room for.
#pragma once

#include <cmath>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/engine/sampler.h"
#include "tests/fakes/reference_backend.h"

namespace trireme {

template <class Base = fakes::ReferenceBackend>
class SamplingBackend final : public Base {
 public:
  SamplingBackend(int max_rows, int vocab_size, size_t max_biases)
      : vocab_size_(vocab_size),
        max_biases_(max_biases),
        logits_(static_cast<size_t>(max_rows) * static_cast<size_t>(vocab_size)) {}

  bool computes_by_itself() const override { return true; }
  void Step(const BatchView& batch, absl::FunctionRef<void(int, int)> forward) override {
    ++num_steps_;
    Base::Step(batch, forward);
  }
  absl::Status Synchronize() override {
    ++num_waits_;
    return Base::Synchronize();
  }

  Tensor sampled_logits() const override {
    return {const_cast<float*>(logits_.data()), DType::kF32,
            static_cast<int64_t>(logits_.size()) / vocab_size_, vocab_size_};
  }

  void Sample(absl::Span<const SampleRequest> requests, Tensor host_logits) override {
    TRIREME_CHECK(host_logits.cols == vocab_size_);
    outcomes_.clear();
    tokens_.assign(requests.size(), {});
    size_t biases = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      const auto vocab = static_cast<size_t>(vocab_size_);
      const absl::Span<float> row(logits_.data() + i * vocab, vocab);
      biases += requests[i].biases.size();
      if (requests[i].on_host || biases > max_biases_) {
        outcomes_.push_back({});
        std::copy(row.begin(), row.end(), static_cast<float*>(host_logits.data) + i * vocab);
        ++num_on_host_;
      } else {
        outcomes_.push_back(SampleRow(requests[i], row, &tokens_[i]));
        ++num_sampled_;
      }
      std::fill(row.begin(), row.end(), std::nanf(""));  // lost
    }
  }

  absl::Span<const SampleOutcome> sampled() override { return outcomes_; }

  int num_sampled() const { return num_sampled_; }
  int num_on_host() const { return num_on_host_; }
  int num_steps() const { return num_steps_; }
  int num_waits() const { return num_waits_; }

 private:
  SampleOutcome SampleRow(const SampleRequest& request, absl::Span<float> row,
                          SampledToken* token) const {
    Sampler sampler;
    const bool given = request.given >= 0;
    const int num_top = std::max(request.num_top, 0);
    // Logprobs are of what comes in, whatever token they turn out to be of.
    const std::vector<float> raw(row.begin(), row.end());
    if (!sampler.LogprobsOf(raw, given ? request.given : 0, num_top, token).ok()) {
      return {.kind = SampleOutcome::Kind::kNotNumbers};
    }
    if (!given) {
      Adjust(request, row);
      const SamplingParams params = {.temperature = request.temperature,
                                     .top_p = request.top_p,
                                     .top_k = request.top_k,
                                     .min_p = request.min_p,
                                     .typical_p = request.typical_p};
      SamplerState state = *SamplerState::Create(params, {}, vocab_size_, request.seed);
      SampledToken drawn;
      if (!sampler.Sample(state, row, request.position, {}, &drawn).ok()) {
        return {.kind = SampleOutcome::Kind::kNothingLeft};
      }
      TRIREME_CHECK(sampler.LogprobsOf(raw, drawn.id, num_top, token).ok());
    }
    SampleOutcome outcome = {.kind = SampleOutcome::Kind::kToken, .id = token->id};
    if (request.num_top >= 0) {
      outcome.logprob = token->logprob;
      outcome.top = token->top;
    }
    return outcome;
  }

  static void Adjust(const SampleRequest& request, absl::Span<float> row) {
    std::vector<bool> biased(row.size());
    for (const TokenBias& bias : request.biases) {
      const auto id = static_cast<size_t>(bias.id);
      TRIREME_CHECK(!biased.at(id));  // each once
      biased[id] = true;
      row[id] += bias.bias;
    }
    TRIREME_CHECK(request.penalties || request.seen.empty());
    for (const SeenToken& seen : request.seen) {
      float& logit = row[static_cast<size_t>(seen.id)];
      logit = logit > 0 ? logit / request.repetition_penalty : logit * request.repetition_penalty;
      if (seen.output_count == 0) continue;
      logit -= request.presence_penalty +
               request.frequency_penalty * static_cast<float>(seen.output_count);
    }
  }

  const int vocab_size_;
  const size_t max_biases_;  // of a step
  std::vector<float> logits_;
  std::vector<SampledToken> tokens_;  // hold the outcomes' `top`
  std::vector<SampleOutcome> outcomes_;
  int num_sampled_ = 0, num_on_host_ = 0, num_steps_ = 0, num_waits_ = 0;
};

}  // namespace trireme
