#include "tests/fakes/scripted_executor.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"

namespace trireme::fakes {

ScriptedExecutor::NextToken ScriptedExecutor::HashOf(TokenId first, int count) {
  return [first, count](const Sequence& sequence) {
    uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
    for (TokenId token : sequence.tokens)
      hash = (hash ^ static_cast<uint32_t>(token)) * 0x100000001b3u;
    return first + static_cast<TokenId>((hash >> 20) % static_cast<uint64_t>(count));
  };
}

ScriptedExecutor::NextToken ScriptedExecutor::Script(std::vector<TokenId> output) {
  return [output = std::move(output)](const Sequence& sequence) {
    const size_t position = static_cast<size_t>(sequence.num_generated());
    return output[std::min(position, output.size() - 1)];
  };
}

std::vector<TokenId> ScriptedExecutor::Expected(const NextToken& next, std::vector<TokenId> prompt,
                                                int count) {
  Sequence sequence;
  sequence.num_prompt_tokens = static_cast<int>(prompt.size());
  sequence.tokens = std::move(prompt);
  std::vector<TokenId> output;
  for (int i = 0; i < count; ++i) {
    output.push_back(next(sequence));
    sequence.tokens.push_back(output.back());
  }
  return output;
}

float ScriptedExecutor::LogprobOf(TokenId token, int length) {
  return -0.125f * static_cast<float>(1 + (token + length) % 32);
}

ScriptedExecutor::ScriptedExecutor(int vocab_size, NextToken next)
    : vocab_size_(vocab_size), next_(std::move(next)) {}

void ScriptedExecutor::Open(RequestId id, const GenerateRequest& request) {
  std::lock_guard lock(mu_);
  TRIREME_CHECK(open_.emplace(id, request.sampling).second);
}

void ScriptedExecutor::Close(RequestId id) {
  std::lock_guard lock(mu_);
  TRIREME_CHECK(open_.erase(id) == 1);
}

void ScriptedExecutor::Submit(const StepPlan& plan) {
  std::lock_guard lock(mu_);
  TRIREME_CHECK(plan_ == nullptr && !plan.rows.empty());
  plan_ = &plan;
}

absl::Status ScriptedExecutor::Collect(StepResult* result) {
  std::unique_lock lock(mu_);
  TRIREME_CHECK(plan_ != nullptr);
  const StepPlan& plan = *std::exchange(plan_, nullptr);
  blocked_ = true;
  gate_changed_.notify_all();
  gate_changed_.wait(lock, [this] { return steps_allowed_ != 0; });
  blocked_ = false;
  if (steps_allowed_ > 0) --steps_allowed_;
  if (!lost_.ok()) return lost_;

  ++num_steps_;
  result->Reset(plan.rows.size());
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    const StepRow& row = plan.rows[i];
    const Sequence& sequence = *row.sequence;
    const SamplingParams& sampling = open_.at(sequence.id);
    seen_.insert(sequence.id);
    num_tokens_ += row.num_tokens;
    SequenceEvent& out = result->rows[i];
    if (auto failing = failing_.find(sequence.id); failing != failing_.end()) {
      out.error = failing->second;
      failing_.erase(failing);
      continue;
    }
    if (sequence.want_prompt_logits) {
      const int end = std::min(row.first_token + row.num_tokens, sequence.num_prompt_tokens - 1);
      for (int token = row.first_token; token < end; ++token) {
        out.prompt_logprobs.push_back(Describe(sequence.tokens[token + 1], token + 1, sampling));
      }
    }
    if (row.sample) {
      out.token = Describe(next_(sequence), static_cast<int>(sequence.tokens.size()), sampling);
    }
  }
  return absl::OkStatus();
}

SampledToken ScriptedExecutor::Describe(TokenId token, int length,
                                        const SamplingParams& sampling) const {
  SampledToken out;
  out.id = token;
  if (!sampling.logprobs) return out;
  out.logprob = LogprobOf(token, length);
  for (int i = 0; i < *sampling.logprobs; ++i) {
    const TokenId other = (token + i) % vocab_size_;
    out.top.push_back({other, out.logprob - static_cast<float>(i)});
  }
  return out;
}

void ScriptedExecutor::CloseGate() {
  std::lock_guard lock(mu_);
  steps_allowed_ = 0;
}
void ScriptedExecutor::OpenGate() {
  std::lock_guard lock(mu_);
  steps_allowed_ = -1;
  gate_changed_.notify_all();
}
void ScriptedExecutor::AllowSteps(int count) {
  std::lock_guard lock(mu_);
  steps_allowed_ = count;
  gate_changed_.notify_all();
}
void ScriptedExecutor::WaitForBlockedStep() {
  std::unique_lock lock(mu_);
  gate_changed_.wait(lock, [this] { return blocked_ && steps_allowed_ == 0; });
}
void ScriptedExecutor::FailRowsOf(RequestId id, absl::Status error) {
  std::lock_guard lock(mu_);
  failing_[id] = std::move(error);
}
void ScriptedExecutor::LoseDevice(absl::Status error) {
  std::lock_guard lock(mu_);
  lost_ = std::move(error);
}

int ScriptedExecutor::num_steps() const {
  std::lock_guard lock(mu_);
  return num_steps_;
}
int ScriptedExecutor::num_open() const {
  std::lock_guard lock(mu_);
  return static_cast<int>(open_.size());
}
int64_t ScriptedExecutor::num_tokens_computed() const {
  std::lock_guard lock(mu_);
  return num_tokens_;
}
bool ScriptedExecutor::saw(RequestId id) const {
  std::lock_guard lock(mu_);
  return seen_.count(id) > 0;
}

}  // namespace trireme::fakes
