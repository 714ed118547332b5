// An Executor without a model: every next token is a plain function of the sequence so far, so that
// a test knows what a request must yield whatever else runs. Faults and timing are under the test's
// control.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "runtime/engine/executor.h"

namespace trireme::fakes {

// Construct, give to an Engine, keep the raw pointer for the controls (any thread) while the engine
// lives.
class ScriptedExecutor final : public Executor {
 public:
  // The token after `tokens` (prompt and output so far).
  using NextToken = std::function<TokenId(const Sequence& sequence)>;

  // A hash of all tokens so far, in [first, first + count).
  static NextToken HashOf(TokenId first, int count);
  // `output` one after the other, then its last token for ever.
  static NextToken Script(std::vector<TokenId> output);

  ScriptedExecutor(int vocab_size, NextToken next);

  void Open(RequestId id, const GenerateRequest& request) override;
  void Close(RequestId id) override;
  void Submit(const StepPlan& plan) override;
  absl::Status Collect(StepResult* result) override;

  // ---- Controls.
  void CloseGate();            // Collect blocks ...
  void OpenGate();             // ... until this
  void AllowSteps(int count);  // ... or lets this many more steps pass
  void WaitForBlockedStep();   // returns when a Collect waits at the closed gate
  void FailRowsOf(RequestId id,
                  absl::Status error);  // its next row fails; others are not disturbed
  void LoseDevice(absl::Status error);  // every later Collect fails

  // ---- Observations.
  int num_steps() const;
  int num_open() const;
  int64_t num_tokens_computed() const;  // prefill and decode
  bool saw(RequestId id) const;         // some step had a row of it

  // What HashOf and Script give without an engine, for `count` tokens after `prompt`.
  static std::vector<TokenId> Expected(const NextToken& next, std::vector<TokenId> prompt,
                                       int count);

  // The logprob that this executor reports for `token` after a prefix of `length` tokens.
  static float LogprobOf(TokenId token, int length);

 private:
  SampledToken Describe(TokenId token, int length, const SamplingParams& sampling) const;

  const int vocab_size_;
  const NextToken next_;

  mutable std::mutex mu_;
  std::condition_variable gate_changed_;
  int steps_allowed_ = -1;  // -1: the gate is open
  bool blocked_ = false;
  const StepPlan* plan_ = nullptr;
  absl::flat_hash_map<RequestId, SamplingParams> open_;
  absl::flat_hash_map<RequestId, absl::Status> failing_;
  absl::Status lost_;
  std::set<RequestId> seen_;
  int num_steps_ = 0;
  int64_t num_tokens_ = 0;
};

}  // namespace trireme::fakes
