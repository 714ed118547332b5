// A device for scheduler tests. Its KV memory holds, at each position of each block, a fingerprint
// of the whole prefix (tenant included) that was computed there. Before it computes a row it checks
// every position that the row attends to, so a stale, foreign or wrongly shared block cannot go
// unnoticed. The next token is a function of the fingerprint.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/scheduler/step_plan.h"

namespace trireme {

inline uint64_t Mix(uint64_t hash, uint64_t value) {  // the finaliser of splitmix64
  uint64_t z = hash + 0x9e3779b97f4a7c15u * (value + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

inline uint64_t Fingerprint(std::string_view tenant) {
  uint64_t hash = 1;
  for (const char c : tenant) hash = Mix(hash, static_cast<uint8_t>(c));
  return hash;
}

inline constexpr int kSimulatedVocab = 50;
inline TokenId NextToken(uint64_t fingerprint) {
  return static_cast<TokenId>(Mix(fingerprint, 7) % kSimulatedVocab);
}

// What a sequence generates when it is alone in the world, and why it ends.
inline std::pair<std::vector<TokenId>, FinishReason> SoloRun(const Sequence& sequence,
                                                             int max_context_tokens) {
  uint64_t hash = Fingerprint(sequence.tenant);
  for (int i = 0; i < sequence.num_prompt_tokens; ++i) hash = Mix(hash, sequence.tokens[i]);
  std::vector<TokenId> output;
  const SequenceLimits& limits = sequence.limits;
  while (static_cast<int>(output.size()) < limits.max_tokens &&
         sequence.num_prompt_tokens + static_cast<int>(output.size()) < max_context_tokens) {
    const TokenId token = NextToken(hash);
    hash = Mix(hash, token);
    output.push_back(token);
    if (static_cast<int>(output.size()) <= limits.min_tokens) continue;
    for (const TokenId stop : limits.stop_ids) {
      if (token == stop) return {output, FinishReason::kStop};
    }
  }
  return {output, FinishReason::kLength};
}

class SimulatedDevice {
 public:
  SimulatedDevice(int num_blocks, int block_size)
      : block_size_(block_size), kv_(static_cast<size_t>(num_blocks) * block_size) {}

  // Runs all rows "at once": what one row writes is not there for another row to read.
  void Run(const StepPlan& plan, StepResult* result) {
    result->Reset(plan.rows.size());
    for (const StepRow& row : plan.rows) CheckPrefix(row);
    for (size_t i = 0; i < plan.rows.size(); ++i) Compute(plan.rows[i], &result->rows[i]);
    for (const StepRow& row : plan.rows) CheckPrefix(row);  // nobody wrote where another reads
  }
  // Positions at which a row found something else than its own prefix.
  int num_mismatches() const { return num_mismatches_; }
  int64_t num_computed() const { return num_computed_; }

 private:
  uint64_t& At(const Sequence& sequence, int position) {
    return kv_[static_cast<size_t>(sequence.blocks[position / block_size_]) * block_size_ +
               position % block_size_];
  }
  uint64_t CheckPrefix(const StepRow& row) {
    uint64_t hash = Fingerprint(row.sequence->tenant);
    for (int i = 0; i < row.first_token; ++i) {
      hash = Mix(hash, row.sequence->tokens[i]);
      if (At(*row.sequence, i) != hash) ++num_mismatches_;
    }
    return hash;
  }
  void Compute(const StepRow& row, SequenceEvent* result) {
    const Sequence& sequence = *row.sequence;
    uint64_t hash = CheckPrefix(row);
    for (int i = row.first_token; i < row.first_token + row.num_tokens; ++i) {
      hash = Mix(hash, sequence.tokens[i]);
      At(sequence, i) = hash;
      if (sequence.want_prompt_logits && i + 1 < sequence.num_prompt_tokens) {
        result->prompt_logprobs.push_back({.id = sequence.tokens[i + 1]});
      }
    }
    num_computed_ += row.num_tokens;
    if (row.sample) result->token.id = NextToken(hash);
  }

  const int block_size_;
  std::vector<uint64_t> kv_;
  int num_mismatches_ = 0;
  int64_t num_computed_ = 0;
};

}  // namespace trireme
