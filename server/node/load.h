// From a path to a Node that can answer, in two steps: what the files say (checkpoint, spec,
// tokenizer, template), then what takes its time (weights, KV cache, engine).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/engine/ranks.h"
#include "runtime/model/decoder.h"
#include "runtime/model/kv_storage.h"
#include "runtime/model/model_files.h"
#include "runtime/model/weight_loader.h"
#include "server/node/model_text.h"
#include "server/node/node.h"
#include "server/ranks/rank_group.h"

namespace trireme {

class ControlLeader;  // of the other nodes that share the model (server/ranks/control_leader.h)

// Every default of the engine's options stands here or in the struct it fills, nowhere else.
struct LoadOptions {
  std::string model;                      // a directory (Hugging Face) or a .gguf file
  std::vector<std::string> served_names;  // first: the id; the rest: aliases. Empty: from the path
  std::string chat_template_file;         // replaces the model's own template
  std::string device = "auto";  // auto (a GPU where build and machine have one), cpu, cuda
  std::string gemm = "own";     // of GPUs, for bf16 and f16 weights: own, cublaslt
  int num_threads = 0;          // 0: AvailableCpus
  std::string packed_weights;   // file that the CPU's packed weights are kept in; empty: nowhere
  int num_ranks = 1;            // devices that share the model, on all nodes together
  RankGroupOptions group;       // those nodes
  int rank_timeout_seconds = static_cast<int>(kDefaultRankTimeout.count());
  int max_context_tokens = 0;           // 0: what the model was trained for
  int64_t kv_cache_bytes = 0;           // 0: see PlanKvCache
  std::string kv_cache_dtype = "auto";  // auto, f32, f16, bf16
  // num_blocks and max_context_tokens are filled in, and a prefill chunk of 0.
  SchedulerOptions scheduler = {.max_prefill_chunk = 0};
  int worker_threads = 2;  // templates and tokenization
  uint64_t seed = 0;       // of requests without one; 0: random

  int ranks_here() const { return group.alone() ? num_ranks : num_ranks / group.num_nodes; }
};

// More are of no use to anyone, and would overflow offsets.
inline constexpr int64_t kMaxKvBlocks = int64_t{1} << 24;

// The name a model is served by unless one is given: the last part of its path, without ".gguf".
std::string DefaultModelName(const std::string& path);

// What --kv-cache-dtype means on the CPU for weights of this type; "auto" is F32 for F32 weights,
// else F16.
DType KvDType(const std::string& option, const std::string& weights);

// The sizes that a decoder under this scheduler gets; they decide what its workspace takes.
DecoderLimits DecoderLimitsOf(const SchedulerOptions& scheduler);

// What decided the size of the KV cache: --kv-cache-memory, room for 32 full contexts, or half of
// the free memory.
enum class KvCacheSource { kAsked, kFullContexts, kFreeMemory };

// How large the KV cache becomes.
struct KvCachePlan {
  KvCacheSource source = KvCacheSource::kAsked;
  int64_t bytes = 0;       // asked for or chosen; the blocks take at most that
  int num_blocks = 0;      // 2 or more
  int wanted_context = 0;  // what the model was trained for, or the smaller --max-context
  int max_context = 0;     // of these, what the blocks hold
};

// Without --kv-cache-memory: room for 32 full contexts, but at most a share of `memory`, what is
// left beside weights and activations. INVALID_ARGUMENT when not even two blocks fit, or when
// --max-context is more than `trained_context`.
absl::StatusOr<KvCachePlan> PlanKvCache(const LoadOptions& options, const KvShape& shape,
                                        int trained_context, const FreeMemory& memory);

// A model that is understood, but whose weights nobody has read.
struct OpenedModel {
  ModelFiles files;
  ModelText text;
  std::unique_ptr<const ChatTemplate> chat_template;  // null: there is none
};

// Takes a moment, whatever the model's size. Errors name the file and the field.
absl::StatusOr<OpenedModel> OpenModel(const LoadOptions& options);

// `model` is of the same options. Errors as above. `observer`, `clock` and `leader` (of the other
// nodes; null: there are none) must outlive the node.
absl::StatusOr<std::unique_ptr<Node>> LoadNode(const LoadOptions& options, OpenedModel model,
                                               const Clock* clock, EngineObserver* observer,
                                               const LoadProgress& progress,
                                               ControlLeader* leader = nullptr);

}  // namespace trireme
