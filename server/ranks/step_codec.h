// A step's batch as it travels to the other nodes (proto/trireme/v1/ranks.proto).
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "runtime/backend/backend.h"
#include "trireme/v1/ranks.pb.h"

namespace trireme {

// What a step may hold: what the model was loaded for.
struct StepBounds {
  int max_tokens = 0;     // in one step
  int max_sequences = 0;  // in one step
  int max_logit_tokens = 0;
  int vocab_size = 0;
  int64_t max_context = 0;  // tokens of one sequence
  int block_size = 0;
  int num_blocks = 0;  // of the KV cache
};

// `step` is overwritten; its memory is used again.
void EncodeStep(const BatchView& batch, int block_size, v1::LeaderMessage::Step* step);

// The batch of a message. One object serves step after step.
class DecodedStep {
 public:
  // INVALID_ARGUMENT names what is outside the bounds; nothing is read by it that the message does
  // not hold.
  absl::Status Decode(const v1::LeaderMessage::Step& step, const StepBounds& bounds);
  // Of the last Decode that went well, until the next one or the message goes away.
  BatchView view() const { return {tokens_, sequences_, logit_tokens_}; }

 private:
  absl::Span<const TokenId> tokens_;
  absl::Span<const int32_t> logit_tokens_;
  std::vector<SequenceSlice> sequences_;
};

}  // namespace trireme
