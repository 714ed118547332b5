#include "server/ranks/step_codec.h"

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

int64_t BlocksOf(int64_t num_tokens, int block_size) {
  return (num_tokens + block_size - 1) / block_size;
}

absl::Status Bad(std::string_view what) {
  return absl::InvalidArgumentError(StrCat("a step of the leader's is malformed: ", what));
}

// Each of them in [0, end).
bool AreBelow(absl::Span<const int32_t> ids, int end) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= end) return false;
  }
  return true;
}

absl::Status CheckSequence(const SequenceSlice& slice, const StepBounds& bounds) {
  if (slice.num_tokens < 1) return Bad("a sequence without tokens");
  if (slice.first_position < 0 || slice.num_tokens > bounds.max_context ||
      slice.first_position > bounds.max_context - slice.num_tokens) {
    return Bad("positions beyond the model's context");
  }
  const int64_t context = slice.first_position + slice.num_tokens;
  if (static_cast<int64_t>(slice.blocks.size()) != BlocksOf(context, bounds.block_size)) {
    return Bad("a block table that does not fit its context");
  }
  if (!AreBelow(slice.blocks, bounds.num_blocks)) return Bad("a block that does not exist");
  return absl::OkStatus();
}

}  // namespace

void EncodeStep(const BatchView& batch, int block_size, v1::LeaderMessage::Step* step) {
  step->Clear();
  step->mutable_tokens()->Add(batch.tokens.begin(), batch.tokens.end());
  step->mutable_logit_tokens()->Add(batch.logit_tokens.begin(), batch.logit_tokens.end());
  for (const SequenceSlice& slice : batch.sequences) {
    auto* const sequence = step->add_sequences();
    sequence->set_num_tokens(slice.num_tokens);
    sequence->set_first_position(slice.first_position);
    const int64_t context = slice.first_position + slice.num_tokens;
    const auto blocks = slice.blocks.subspan(0, static_cast<size_t>(BlocksOf(context, block_size)));
    sequence->mutable_blocks()->Add(blocks.begin(), blocks.end());
  }
}

absl::Status DecodedStep::Decode(const v1::LeaderMessage::Step& step, const StepBounds& bounds) {
  tokens_ = {step.tokens().data(), static_cast<size_t>(step.tokens_size())};
  logit_tokens_ = {step.logit_tokens().data(), static_cast<size_t>(step.logit_tokens_size())};
  sequences_.clear();
  if (tokens_.empty() || step.tokens_size() > bounds.max_tokens) return Bad("the number of tokens");
  if (step.sequences_size() > bounds.max_sequences) return Bad("the number of sequences");
  if (step.logit_tokens_size() > bounds.max_logit_tokens) return Bad("the number of logits");
  if (!AreBelow(tokens_, bounds.vocab_size)) return Bad("a token that does not exist");
  if (!AreBelow(logit_tokens_, step.tokens_size()))
    return Bad("logits of a token that is not there");
  for (size_t i = 1; i < logit_tokens_.size(); ++i) {
    if (logit_tokens_[i] <= logit_tokens_[i - 1]) return Bad("logits in disorder");
  }
  int64_t first_token = 0;
  for (const auto& sequence : step.sequences()) {
    SequenceSlice slice;
    slice.first_token = static_cast<int>(first_token);
    slice.num_tokens = sequence.num_tokens();
    slice.first_position = sequence.first_position();
    slice.blocks = {sequence.blocks().data(), static_cast<size_t>(sequence.blocks_size())};
    TRIREME_RETURN_IF_ERROR(CheckSequence(slice, bounds));
    first_token += slice.num_tokens;
    if (first_token > step.tokens_size()) break;
    sequences_.push_back(slice);
  }
  if (first_token != step.tokens_size()) return Bad("sequences that do not make up the tokens");
  return absl::OkStatus();
}

}  // namespace trireme
