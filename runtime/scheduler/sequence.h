// One sequence on its way through the engine: its tokens, its KV blocks, and how far it has been
// computed.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/base/ids.h"
#include "runtime/kv/block_pool.h"

namespace trireme {

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kDeadline, kError };

// How and why something ends a sequence from outside of a step.
struct Ending {
  FinishReason reason = FinishReason::kNone;
  absl::Status error;  // for kError and kDeadline
};

// What the scheduler needs to know of a request; sampling itself is not its business.
struct SequenceLimits {
  int max_tokens = 0;  // generated tokens, >= 0 (0: prefill only, for prompt logprobs)
  int min_tokens = 0;  // stop ids are ordinary tokens until this many have been generated
  std::vector<TokenId> stop_ids;  // includes the model's eos ids unless ignore_eos
};

// A step reads a few of the members of every running sequence: they come first and together, so
// that they share cache lines.
struct Sequence {
  // State; scheduler only.
  std::vector<TokenId> tokens;  // prompt, then generated
  std::vector<BlockId> blocks;  // ceil(num_computed-to-be / block_size) entries while running
  int num_computed = 0;         // tokens whose K and V are in the cache, [0, tokens.size())
  int num_published = 0;        // leading blocks whose content the block pool knows
  int num_preemptions = 0;
  int num_cached_prompt = 0;  // of the prompt, found in the prefix cache at first admission
  bool paused = false;        // its reader is slow: keeps its blocks, gets no rows

  // Constant after Admit.
  bool want_prompt_logits = false;  // logits of every prompt position: no prefix-cache reads
  int priority = 0;                 // lower runs first
  int num_prompt_tokens = 0;
  RequestId id = 0;
  SequenceLimits limits;
  std::string tenant;  // salt of the prefix cache and key of fairness
  absl::Time deadline = absl::InfiniteFuture();
  absl::Time arrival;

  std::vector<BlockHash> hashes;  // state: of the full blocks of `tokens`, computed once

  int num_generated() const { return static_cast<int>(tokens.size()) - num_prompt_tokens; }
};

}  // namespace trireme
