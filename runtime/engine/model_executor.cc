#include "runtime/engine/model_executor.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status.h"

namespace trireme {
namespace {

// Logprobs of prompt tokens come from the logits of the token before.
bool WantsPromptLogprob(const Sequence& sequence, int token) {
  return sequence.want_prompt_logits && token + 1 < sequence.num_prompt_tokens;
}

// Of the uniform number that draws the next token.
uint64_t PositionOf(const Sequence& sequence) {
  return static_cast<uint64_t>(sequence.num_generated());
}

absl::Span<const TokenId> BannedOf(const Sequence& sequence) {
  if (sequence.num_generated() >= sequence.limits.min_tokens) return {};
  return sequence.limits.stop_ids;
}

size_t NumPromptLogprobs(const StepRow& row) {
  if (!row.sequence->want_prompt_logits) return 0;
  const int end = std::min(row.first_token + row.num_tokens, row.sequence->num_prompt_tokens - 1);
  return static_cast<size_t>(std::max(end - row.first_token, 0));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelExecutor>> ModelExecutor::Create(std::unique_ptr<Ranks> ranks) {
  const DecoderLimits& limits = ranks->decoder().limits();
  TRIREME_CHECK(limits.max_step_tokens > 0 && limits.max_logit_tokens > 0);
  absl::StatusOr<std::unique_ptr<Buffer>> logits = ranks->backend().AllocateReadable(
      sizeof(float) * static_cast<size_t>(limits.max_logit_tokens) *
      static_cast<size_t>(ranks->decoder().spec().vocab_size));
  if (!logits.ok()) return Annotate(logits.status(), "logits");
  return std::unique_ptr<ModelExecutor>(new ModelExecutor(std::move(ranks), *std::move(logits)));
}

ModelExecutor::ModelExecutor(std::unique_ptr<Ranks> ranks, std::unique_ptr<Buffer> logits)
    : ranks_(std::move(ranks)),
      limits_(ranks_->decoder().limits()),
      vocab_size_(ranks_->decoder().spec().vocab_size),
      logits_(std::move(logits)) {}

ModelExecutor::~ModelExecutor() {
  // Before what its ranks read and write goes away.
  if (plan_ != nullptr && !tokens_.empty()) ranks_->Wait().IgnoreError();
}

void ModelExecutor::Open(RequestId id, const GenerateRequest& request) {
  const SamplingParams& sampling = request.sampling;
  samplers_.emplace(
      id, SamplerState::Create(sampling, request.prompt, vocab_size_, sampling.seed.value_or(0)));
}

void ModelExecutor::Close(RequestId id) { samplers_.erase(id); }

void ModelExecutor::Submit(const StepPlan& plan) {
  TRIREME_CHECK(plan_ == nullptr);
  plan_ = &plan;
  next_row_ = 0;
  next_offset_ = 0;
  row_samplers_.clear();
  for (const StepRow& row : plan.rows) row_samplers_.push_back(&samplers_.at(row.sequence->id));
  BeginBatch(plan);
}

absl::Status ModelExecutor::Collect(StepResult* result) {
  TRIREME_CHECK(plan_ != nullptr);
  const StepPlan& plan = *std::exchange(plan_, nullptr);
  result->Reset(plan.rows.size());
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    const absl::StatusOr<SamplerState>& sampler = *row_samplers_[i];
    result->rows[i].error = sampler.status();
    if (sampler.ok()) result->rows[i].prompt_logprobs.resize(NumPromptLogprobs(plan.rows[i]));
  }
  for (; !tokens_.empty(); BeginBatch(plan)) {
    TRIREME_RETURN_IF_ERROR(ranks_->Wait());
    EndBatch(result);
  }
  return absl::OkStatus();
}

// Without effect when nothing is left, or only rows that had failed before: tokens_ are empty then.
void ModelExecutor::BeginBatch(const StepPlan& plan) {
  FillBatch(plan);
  if (tokens_.empty()) return;
  const BatchView batch = {tokens_, slices_, logit_tokens_};
  const Tensor host_logits = {logits_->data(), DType::kF32, limits_.max_logit_tokens, vocab_size_};
  const Tensor device_logits = ranks_->backend().sampled_logits();
  if (device_logits.data == nullptr) {
    ranks_->Begin(batch, host_logits);
  } else {
    AskDevice();
    ranks_->Begin(batch, device_logits, {sample_batch_.Requests(), host_logits});
  }
}

// Takes as much of the plan, from where the last batch ended, as the decoder can compute at once.
void ModelExecutor::FillBatch(const StepPlan& plan) {
  tokens_.clear();
  slices_.clear();
  logit_tokens_.clear();
  logit_rows_.clear();
  while (next_row_ < plan.rows.size() && AddPiece(plan.rows[next_row_])) {
    ++next_row_;
    next_offset_ = 0;
  }
}

// Adds what is left of a row, or as much of it as the batch has room for: then false.
bool ModelExecutor::AddPiece(const StepRow& row) {
  const Sequence& sequence = *row.sequence;
  absl::StatusOr<SamplerState>& sampler = *row_samplers_[next_row_];
  if (!sampler.ok()) return true;
  const int first = row.first_token + next_offset_;
  const int first_in_batch = static_cast<int>(tokens_.size());
  while (next_offset_ < row.num_tokens &&
         tokens_.size() < static_cast<size_t>(limits_.max_step_tokens)) {
    const int token = row.first_token + next_offset_;
    const bool sample = row.sample && next_offset_ == row.num_tokens - 1;
    if (sample || WantsPromptLogprob(sequence, token)) {
      if (logit_rows_.size() == static_cast<size_t>(limits_.max_logit_tokens)) break;
      logit_tokens_.push_back(static_cast<int32_t>(tokens_.size()));
      const TokenId given = sample ? -1 : sequence.tokens[static_cast<size_t>(token) + 1];
      logit_rows_.push_back(
          {static_cast<int>(next_row_), next_offset_, &sequence, given, &*sampler, nullptr, {}});
    }
    tokens_.push_back(sequence.tokens[static_cast<size_t>(token)]);
    ++next_offset_;
  }
  const int num_tokens = static_cast<int>(tokens_.size()) - first_in_batch;
  if (num_tokens > 0) slices_.push_back({first_in_batch, num_tokens, first, sequence.blocks});
  return next_offset_ == row.num_tokens;
}

// The batch has been computed: the tokens that the device chose are there, and the logits of
// host_rows_.
void ModelExecutor::EndBatch(StepResult* result) {
  for (LogitRow& row : logit_rows_) {
    SequenceEvent& out = result->rows[static_cast<size_t>(row.row)];
    row.out = row.samples() ? &out.token : &out.prompt_logprobs[static_cast<size_t>(row.offset)];
  }
  host_rows_.clear();
  if (ranks_->backend().sampled_logits().data == nullptr) {
    for (size_t i = 0; i < logit_rows_.size(); ++i) host_rows_.push_back(static_cast<int>(i));
  } else if (!logit_rows_.empty()) {
    UseOutcomes();
  }
  auto* const logits = static_cast<float*>(logits_->data());
  ranks_->backend().ParallelFor(static_cast<int>(host_rows_.size()), [&](int i) {
    const int index = host_rows_[static_cast<size_t>(i)];
    UseLogits(logits + static_cast<int64_t>(index) * vocab_size_,
              &logit_rows_[static_cast<size_t>(index)]);
  });
  for (LogitRow& row : logit_rows_) {
    result->rows[static_cast<size_t>(row.row)].error.Update(std::move(row.status));
  }
}

void ModelExecutor::AskDevice() {
  sample_batch_.Clear();
  for (const LogitRow& row : logit_rows_) {
    const SamplerState& state = *row.sampler_state;
    if (row.samples()) {
      sample_batch_.AddSample(state, PositionOf(*row.sequence), BannedOf(*row.sequence));
    } else {
      sample_batch_.AddPromptToken(row.given, state.params().logprobs.value_or(0));
    }
  }
}

void ModelExecutor::UseOutcomes() {
  const absl::Span<const SampleOutcome> outcomes = ranks_->backend().sampled();
  for (size_t i = 0; i < logit_rows_.size(); ++i) {
    LogitRow& row = logit_rows_[i];
    if (outcomes[i].kind == SampleOutcome::Kind::kOnHost) {
      host_rows_.push_back(static_cast<int>(i));
      continue;
    }
    row.status = ToSampledToken(outcomes[i], row.out);
    if (row.status.ok() && row.samples()) row.sampler_state->Accept(row.out->id);
  }
}

// Any thread of the backend.
void ModelExecutor::UseLogits(float* logits, LogitRow* row) const {
  thread_local Sampler sampler;  // for its scratch memory
  const absl::Span<float> all = {logits, static_cast<size_t>(vocab_size_)};
  SamplerState& state = *row->sampler_state;
  if (row->samples()) {
    row->status =
        sampler.Sample(state, all, PositionOf(*row->sequence), BannedOf(*row->sequence), row->out);
  } else {
    row->status =
        sampler.LogprobsOf(all, row->given, state.params().logprobs.value_or(0), row->out);
  }
}

}  // namespace trireme
