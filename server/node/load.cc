#include "server/node/load.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "runtime/backend/cuda_backend.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/engine/model_executor.h"
#include "runtime/model/decoder.h"
#include "runtime/model/kv_storage.h"
#include "runtime/model/model_files.h"
#include "server/node/load_ranks.h"
#include "server/node/model_text.h"
#include "server/ranks/control_leader.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

// The KV cache when no size is given: room for this many full contexts, but at most half of what is
// free.
constexpr int64_t kDefaultKvContexts = 32;
// Rows of logits computed at once; a step that wants more is computed in pieces.
constexpr int kMaxLogitRows = 64;
// Prompt tokens beside running streams: a CPU computes so many about as fast a token as it does
// more, and in a tenth of a second. A GPU is busy with a whole step only.
constexpr int kCpuPrefillChunk = 128;
// Work that may wait for a template or tokenizer thread.
constexpr size_t kMaxQueuedWork = 4096;

ModelInfo Describe(const LoadOptions& options, const ModelFiles& files) {
  ModelInfo info;
  info.id =
      options.served_names.empty() ? DefaultModelName(options.model) : options.served_names.front();
  if (options.served_names.size() > 1) {
    info.aliases.assign(options.served_names.begin() + 1, options.served_names.end());
  }
  info.created = absl::Now();
  info.architecture = files.spec.architecture;
  info.quantization = DominantType(*files.checkpoint);
  info.vocab_size = files.spec.vocab_size;
  return info;
}

void WarnOfCut(const char* setting, int wanted, int effective) {
  if (wanted == effective) return;
  Log(LogLevel::kWarning, "a setting is cut to what --max-step-tokens holds",
      {{"setting", setting}, {"wanted", wanted}, {"effective", effective}});
}

absl::StatusOr<DType> KvDTypeOn(const Backend& backend, const std::string& option,
                                const std::string& weights) {
  const absl::Span<const DType> types = backend.kv_dtypes();
  const DType wanted = KvDType(option, weights);
  if (std::find(types.begin(), types.end(), wanted) != types.end()) return wanted;
  if (option == "auto") return types.front();
  return absl::InvalidArgumentError(StrCat("--kv-cache-dtype ", option, ": ", backend.Describe(),
                                           " has no such KV cache; leave the option out"));
}

// Has the other nodes load, if there are any, and gives what the ranks of all find each other by;
// empty for a single rank.
absl::StatusOr<std::string> StartGroup(const LoadOptions& options, const ModelFiles& files,
                                       const SchedulerOptions& scheduler, ControlLeader* leader,
                                       const std::function<void()>& wait) {
  if (options.num_ranks == 1) return std::string();
  if (leader != nullptr) {
    TRIREME_RETURN_IF_ERROR(leader->Gather(options.num_ranks, ModelDigest(files), wait));
  }
  TRIREME_ASSIGN_OR_RETURN(std::string group, NewRankGroup());
  if (leader == nullptr) return group;
  v1::LeaderMessage::Start start;
  start.set_group(group);
  start.set_num_ranks(options.num_ranks);
  start.set_max_step_tokens(scheduler.max_step_tokens);
  start.set_max_running(scheduler.max_running);
  start.set_block_size(scheduler.block_size);
  start.set_rank_timeout_seconds(options.rank_timeout_seconds);
  TRIREME_RETURN_IF_ERROR(leader->Start(start));
  return group;
}

}  // namespace

DType KvDType(const std::string& option, const std::string& weights) {
  if (option == "f32") return DType::kF32;
  if (option == "bf16") return DType::kBF16;
  if (option == "f16") return DType::kF16;
  return weights == "F32" ? DType::kF32 : DType::kF16;
}

std::string DefaultModelName(const std::string& path) {
  fs::path name = fs::path(path).lexically_normal();
  if (name.filename().empty()) name = name.parent_path();  // "dir/"
  if (name.extension() == ".gguf") return name.stem().string();
  return name.filename().string();
}

DecoderLimits DecoderLimitsOf(const SchedulerOptions& scheduler) {
  return {.max_step_tokens = scheduler.max_step_tokens,
          .max_logit_tokens =
              std::min({scheduler.max_running, scheduler.max_step_tokens, kMaxLogitRows})};
}

absl::StatusOr<KvCachePlan> PlanKvCache(const LoadOptions& options, const KvShape& shape,
                                        int trained_context, const FreeMemory& memory) {
  if (options.max_context_tokens > trained_context) {
    return absl::InvalidArgumentError(StrCat("--max-context ", options.max_context_tokens,
                                             ": the model was trained for contexts of ",
                                             trained_context, " tokens; give at most that"));
  }
  KvCachePlan plan;
  plan.wanted_context =
      options.max_context_tokens > 0 ? options.max_context_tokens : trained_context;
  const int64_t context_bytes =
      (plan.wanted_context + shape.block_size - 1) / shape.block_size * shape.block_bytes();
  plan.bytes = options.kv_cache_bytes;
  plan.source = KvCacheSource::kAsked;
  if (plan.bytes == 0) {
    if (!memory.bytes) {
      return absl::UnavailableError(
          "/proc/meminfo does not tell how much memory is free; give --kv-cache-memory");
    }
    const int64_t share = std::max<int64_t>(0, *memory.bytes) * memory.kv_percent / 100;
    plan.bytes = std::min(kDefaultKvContexts * context_bytes, share);
    plan.source = plan.bytes == share ? KvCacheSource::kFreeMemory : KvCacheSource::kFullContexts;
  }
  const int64_t blocks = std::min<int64_t>(plan.bytes / shape.block_bytes(), kMaxKvBlocks);
  if (blocks < 2) {
    return absl::InvalidArgumentError(StrCat(
        plan.source == KvCacheSource::kAsked ? std::string("--kv-cache-memory")
                                             : StrCat(memory.kv_percent, " % of free memory"),
        ", ", plan.bytes, " bytes, is too little for a KV cache: one block takes ",
        shape.block_bytes(), ", one full context ", context_bytes));
  }
  plan.num_blocks = static_cast<int>(blocks);
  plan.max_context =
      static_cast<int>(std::min<int64_t>(plan.wanted_context, blocks * shape.block_size));
  return plan;
}

absl::StatusOr<OpenedModel> OpenModel(const LoadOptions& options) {
  TRIREME_RETURN_IF_ERROR(CheckDevices(options));
  OpenedModel model;
  TRIREME_ASSIGN_OR_RETURN(model.files, OpenModelFiles(options.model));
  TRIREME_ASSIGN_OR_RETURN(model.text, OpenModelText(model.files));
  TRIREME_ASSIGN_OR_RETURN(model.chat_template,
                           CompileChatTemplate(model.text, options.chat_template_file));
  return model;
}

absl::StatusOr<std::unique_ptr<Node>> LoadNode(const LoadOptions& options, OpenedModel model,
                                               const Clock* clock, EngineObserver* observer,
                                               const LoadProgress& progress,
                                               ControlLeader* leader) {
  ModelFiles& files = model.files;
  ModelText& text = model.text;
  auto node = std::make_unique<Node>();
  node->clock = clock;
  node->chat_template = std::move(model.chat_template);
  node->tokenizer = std::move(text.tokenizer);
  node->default_sampling = text.default_sampling;
  node->info = Describe(options, files);

  EngineOptions engine;
  engine.seed = options.seed;
  engine.scheduler = options.scheduler;
  SchedulerOptions& scheduler = engine.scheduler;
  if (scheduler.max_prefill_chunk == 0) {
    scheduler.max_prefill_chunk = OnGpus(options)
                                      ? scheduler.max_step_tokens
                                      : std::min(kCpuPrefillChunk, scheduler.max_step_tokens);
  }
  const int wanted_chunk = scheduler.max_prefill_chunk;
  scheduler = FitToStep(scheduler);
  WarnOfCut("--max-prefill-chunk", wanted_chunk, scheduler.max_prefill_chunk);
  WarnOfCut("--max-running", options.scheduler.max_running, scheduler.max_running);

  const int64_t bytes = files.checkpoint->size_bytes();
  TRIREME_ASSIGN_OR_RETURN(const std::string group, StartGroup(options, files, scheduler, leader,
                                                               [&] { progress(0, bytes); }));
  TRIREME_ASSIGN_OR_RETURN(std::vector<ModelRank> ranks,
                           LoadRanks(options, files, scheduler, group, progress));
  const auto wait = [&] { progress(bytes, bytes); };  // for the other nodes
  node->info.device = DescribeRanks(ranks, options.num_ranks);
  TRIREME_ASSIGN_OR_RETURN(
      const DType kv_dtype,
      KvDTypeOn(*ranks[0].backend, options.kv_cache_dtype, node->info.quantization));
  // The same on every rank.
  const KvShape shape =
      KvShape::Of(ranks[0].decoder->shard().local, scheduler.block_size, kv_dtype);
  FreeMemory memory = LeastMemory(ranks);
  if (leader != nullptr) {
    TRIREME_ASSIGN_OR_RETURN(memory, leader->LeastMemory(memory, wait));
  }
  TRIREME_ASSIGN_OR_RETURN(const KvCachePlan plan,
                           PlanKvCache(options, shape, files.spec.max_context, memory));
  scheduler.num_blocks = plan.num_blocks;
  scheduler.max_context_tokens = plan.max_context;
  if (plan.max_context < plan.wanted_context) {
    Log(LogLevel::kWarning, "context cut to what the KV cache holds; raise --kv-cache-memory",
        {{"wanted_tokens", plan.wanted_context}, {"tokens", plan.max_context}});
  }
  for (ModelRank& rank : ranks) {
    auto kv = KvStorage::Create(shape, scheduler.num_blocks, *rank.backend);
    if (!kv.ok()) {
      return Annotate(kv.status(),
                      plan.source == KvCacheSource::kAsked
                          ? "--kv-cache-memory"
                          : "the KV cache by default (--kv-cache-memory sets its size)");
    }
    rank.kv = *std::move(kv);
  }
  std::vector<std::shared_ptr<RemoteNode>> nodes;
  if (leader != nullptr) {
    TRIREME_RETURN_IF_ERROR(leader->MakeKvCaches(scheduler.num_blocks, kv_dtype, wait));
    nodes = leader->nodes();
  }
  engine.limits.vocab_size = files.spec.vocab_size;
  engine.limits.max_context_tokens = scheduler.max_context_tokens;
  engine.limits.eos_ids = text.eos_ids;
  node->info.max_context_tokens = scheduler.max_context_tokens;

  TRIREME_ASSIGN_OR_RETURN(
      auto executor,
      ModelExecutor::Create(std::make_unique<Ranks>(
          std::move(ranks), std::chrono::seconds(options.rank_timeout_seconds), std::move(nodes))));
  node->workers = std::make_unique<WorkerPool>(options.worker_threads, kMaxQueuedWork);
  node->engine = std::make_unique<Engine>(engine, std::move(executor), clock, observer);
  return node;
}

}  // namespace trireme
