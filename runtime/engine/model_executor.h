// Turns a step plan into forward passes of a model, and logits into tokens.
//
// Submit begins the step, so that a device computes until Collect; a CPU computes in Collect.
//
// A step normally is one forward pass. It becomes several when it holds more tokens, or wants more
// rows of logits, than the decoder has memory for (prompt logprobs want one row per prompt token):
// rows are then computed piece after piece, all but the first in Collect. Batch invariance makes
// this invisible in the results.
#pragma once

#include <memory>
#include <vector>

#include "absl/container/node_hash_map.h"
#include "runtime/engine/executor.h"
#include "runtime/engine/ranks.h"
#include "runtime/engine/sample_batch.h"
#include "runtime/engine/sampler.h"

namespace trireme {

class ModelExecutor final : public Executor {
 public:
  // Allocates the host's logits: [max_logit_tokens of the decoder's limits, vocab_size] F32. Where
  // the backend samples, they hold the rows that it leaves to the host. RESOURCE_EXHAUSTED when the
  // first rank's backend has not got that much.
  static absl::StatusOr<std::unique_ptr<ModelExecutor>> Create(std::unique_ptr<Ranks> ranks);
  // Waits for a step that was not collected.
  ~ModelExecutor() override;

  void Open(RequestId id, const GenerateRequest& request) override;
  void Close(RequestId id) override;
  void Submit(const StepPlan& plan) override;
  absl::Status Collect(StepResult* result) override;

 private:
  // One row of logits, and what becomes of it.
  struct LogitRow {
    int row;     // of the plan
    int offset;  // of its tokens
    const Sequence* sequence;
    TokenId given;  // the prompt's next token, whose logprob is wanted; -1: one is to be sampled
    SamplerState* sampler_state;
    SampledToken* out;  // from Collect on
    absl::Status status;

    bool samples() const { return given < 0; }
  };

  ModelExecutor(std::unique_ptr<Ranks> ranks, std::unique_ptr<Buffer> logits);
  void BeginBatch(const StepPlan& plan);
  void FillBatch(const StepPlan& plan);
  bool AddPiece(const StepRow& row);
  void AskDevice();
  void EndBatch(StepResult* result);
  void UseOutcomes();
  void UseLogits(float* logits, LogitRow* row) const;

  // Constant after construction.
  const std::unique_ptr<Ranks> ranks_;
  const DecoderLimits limits_;
  const int vocab_size_;
  const std::unique_ptr<Buffer> logits_;  // [max_logit_tokens, vocab_size]

  // A request whose sampler could not be made fails at its first token.
  absl::node_hash_map<RequestId, absl::StatusOr<SamplerState>> samplers_;
  const StepPlan* plan_ = nullptr;                           // between Submit and Collect
  std::vector<absl::StatusOr<SamplerState>*> row_samplers_;  // of the plan's rows

  // How far the plan has been put into batches, and the current batch. Kept for their memory.
  size_t next_row_ = 0;
  int next_offset_ = 0;  // first token of that row that is still to be computed
  std::vector<TokenId> tokens_;
  std::vector<SequenceSlice> slices_;
  std::vector<int32_t> logit_tokens_;
  std::vector<LogitRow> logit_rows_;  // as many as logit_tokens_
  SampleBatch sample_batch_;          // of these, where the backend samples
  std::vector<int> host_rows_;        // indices of those that it leaves to the host; else of all
};

}  // namespace trireme
