#include "server/node/load.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include "runtime/backend/cpu_backend.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/engine/model_executor.h"
#include "runtime/model/decoder.h"
#include "runtime/model/kv_storage.h"
#include "server/node/model_files.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

// The KV cache when no size is given: room for this many full contexts, but at most half of what is
// free.
constexpr int64_t kDefaultKvContexts = 32;
// Work that may wait for a template or tokenizer thread.
constexpr size_t kMaxQueuedWork = 4096;

absl::StatusOr<int64_t> AvailableMemory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  int64_t kib = 0;
  while (file >> key >> kib) {
    if (key == "MemAvailable:") return kib << 10;
    file.ignore(256, '\n');
  }
  return absl::UnavailableError("/proc/meminfo does not tell MemAvailable");
}

absl::StatusOr<DType> KvDType(const LoadOptions& options, const ModelFiles& files) {
  if (options.kv_cache_dtype == "f32") return DType::kF32;
  if (options.kv_cache_dtype == "bf16") return DType::kBF16;
  if (options.kv_cache_dtype == "f16") return DType::kF16;
  return files.quantization == "F32" ? DType::kF32 : DType::kF16;
}

absl::StatusOr<int> KvBlocks(const LoadOptions& options, const KvShape& shape, int max_context) {
  const int64_t context_bytes =
      (max_context + shape.block_size - 1) / shape.block_size * shape.block_bytes();
  int64_t bytes = options.kv_cache_bytes;
  if (bytes == 0) {
    TRIREME_ASSIGN_OR_RETURN(const int64_t available, AvailableMemory());
    bytes = std::min(kDefaultKvContexts * context_bytes, available / 2);
  }
  const int64_t blocks = std::min<int64_t>(bytes / shape.block_bytes(), int64_t{1} << 30);
  if (blocks < 2) {
    return absl::InvalidArgumentError(StrCat("--kv-cache-memory: one block of the KV cache takes ",
                                             shape.block_bytes(), " bytes; give at least ",
                                             2 * shape.block_bytes(), ", better ", context_bytes,
                                             " for one full context"));
  }
  return static_cast<int>(blocks);
}

absl::StatusOr<std::unique_ptr<const ChatTemplate>> LoadTemplate(const LoadOptions& options,
                                                                 const ModelFiles& files) {
  std::string source = files.chat_template;
  if (!options.chat_template_file.empty()) {
    std::ifstream file(options.chat_template_file, std::ios::binary);
    std::ostringstream text;
    if (!file || !(text << file.rdbuf())) {
      return absl::NotFoundError(
          StrCat("--chat-template: cannot read ", options.chat_template_file));
    }
    source = text.str();
  }
  if (source.empty()) return std::unique_ptr<const ChatTemplate>();
  auto compiled = ChatTemplate::Compile(std::move(source));
  if (!compiled.ok()) {
    return Annotate(compiled.status(), "chat template (replace it with --chat-template FILE)");
  }
  return compiled;
}

int ComputeThreads(int asked) {
  return asked > 0 ? asked : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

std::string DefaultModelName(const std::string& path) {
  fs::path name = fs::path(path).lexically_normal();
  if (name.filename().empty()) name = name.parent_path();  // "dir/"
  if (name.extension() == ".gguf") return name.stem().string();
  return name.filename().string();
}

absl::StatusOr<std::unique_ptr<Node>> LoadNode(const LoadOptions& options, const Clock* clock,
                                               EngineObserver* observer,
                                               const LoadProgress& progress) {
  TRIREME_ASSIGN_OR_RETURN(ModelFiles files, OpenModelFiles(options.model));
  auto node = std::make_unique<Node>();
  node->clock = clock;
  TRIREME_ASSIGN_OR_RETURN(node->chat_template, LoadTemplate(options, files));
  node->tokenizer = std::move(files.tokenizer);
  node->default_sampling = files.default_sampling;

  CpuBackendOptions backend_options;
  backend_options.num_threads = ComputeThreads(options.num_threads);
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, MakeCpuBackend(backend_options));
  node->info.device = backend->description();

  EngineOptions engine;
  engine.seed = options.seed;
  SchedulerOptions& scheduler = engine.scheduler;
  scheduler = options.scheduler;
  scheduler.max_prefill_chunk = std::min(scheduler.max_prefill_chunk, scheduler.max_step_tokens);
  scheduler.max_running = std::min(scheduler.max_running, scheduler.max_step_tokens);

  DecoderLimits limits;
  limits.max_step_tokens = scheduler.max_step_tokens;
  limits.max_logit_tokens = scheduler.max_running;
  TRIREME_ASSIGN_OR_RETURN(
      auto decoder, Decoder::Load(files.spec, *files.checkpoint, *backend, limits, progress));

  const int wanted_context = options.max_context_tokens > 0
                                 ? std::min(options.max_context_tokens, files.spec.max_context)
                                 : files.spec.max_context;
  TRIREME_ASSIGN_OR_RETURN(const DType kv_dtype, KvDType(options, files));
  const KvShape shape = KvShape::Of(files.spec, scheduler.block_size, kv_dtype);
  TRIREME_ASSIGN_OR_RETURN(scheduler.num_blocks, KvBlocks(options, shape, wanted_context));
  TRIREME_ASSIGN_OR_RETURN(auto kv, KvStorage::Create(shape, scheduler.num_blocks, *backend));
  const int64_t kv_tokens = int64_t{scheduler.num_blocks} * scheduler.block_size;
  scheduler.max_context_tokens = static_cast<int>(std::min<int64_t>(wanted_context, kv_tokens));
  if (scheduler.max_context_tokens < wanted_context) {
    Log(LogLevel::kWarning, "context cut to what the KV cache holds; raise --kv-cache-memory",
        {{"wanted_tokens", wanted_context}, {"tokens", scheduler.max_context_tokens}});
  }

  engine.limits.vocab_size = files.spec.vocab_size;
  engine.limits.max_context_tokens = scheduler.max_context_tokens;
  engine.limits.eos_ids = files.eos_ids;

  node->info.id =
      options.served_names.empty() ? DefaultModelName(options.model) : options.served_names.front();
  if (options.served_names.size() > 1) {
    node->info.aliases.assign(options.served_names.begin() + 1, options.served_names.end());
  }
  node->info.created = absl::Now();
  node->info.architecture = files.spec.architecture;
  node->info.quantization = files.quantization;
  node->info.max_context_tokens = scheduler.max_context_tokens;
  node->info.vocab_size = files.spec.vocab_size;

  auto executor = std::make_unique<ModelExecutor>(std::move(files.checkpoint), std::move(backend),
                                                  std::move(decoder), std::move(kv));
  node->workers = std::make_unique<WorkerPool>(options.worker_threads, kMaxQueuedWork);
  node->engine = std::make_unique<Engine>(engine, std::move(executor), clock, observer);
  return node;
}

}  // namespace trireme
