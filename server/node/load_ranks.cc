#include "server/node/load_ranks.h"

#include <algorithm>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include "runtime/backend/cpu_backend.h"
#include "runtime/backend/cuda_backend.h"
#include "runtime/base/cpus.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

StepLimits StepLimitsOf(const Shard& shard, const DecoderLimits& limits,
                        const SchedulerOptions& scheduler) {
  return {.max_tokens = limits.max_step_tokens,
          .max_sequences = scheduler.max_running,
          .max_logit_rows = limits.max_logit_tokens,
          .max_context = shard.model.max_context,
          .block_size = scheduler.block_size,
          .num_heads = shard.local.num_heads,
          .num_kv_heads = shard.local.num_kv_heads,
          .head_dim = shard.local.head_dim,
          .window = shard.local.sliding_window,
          .hidden_size = shard.local.hidden_size,
          .logit_columns = shard.vocab_columns};
}

// A model stored in F16 is computed in F16 on a GPU: bf16 would round its weights. Activations
// beyond 65,504 are then no numbers, and fail their request. Every node finds the same.
bool MostlyF16(const Checkpoint& checkpoint) {
  int64_t f16_bytes = 0;
  for (const std::string& name : checkpoint.Names()) {
    const auto tensor = checkpoint.Find(name);
    if (!tensor.ok() || tensor->dtype != DType::kF16) continue;
    f16_bytes += tensor->rows() * tensor->row_bytes();
  }
  return 2 * f16_bytes > checkpoint.size_bytes();
}

// The progress of several ranks as that of one load: their mean.
class SharedProgress {
 public:
  SharedProgress(const LoadProgress& progress, int num_ranks)
      : progress_(progress), done_(static_cast<size_t>(num_ranks)) {}

  LoadProgress Of(int rank) {
    if (!progress_) return {};
    return [this, rank](int64_t done, int64_t total) {
      std::lock_guard lock(mu_);
      done_[static_cast<size_t>(rank)] = done;
      const int64_t sum = std::accumulate(done_.begin(), done_.end(), int64_t{0});
      progress_(sum / static_cast<int64_t>(done_.size()), total);
    };
  }

 private:
  const LoadProgress& progress_;
  std::mutex mu_;
  std::vector<int64_t> done_;  // guarded by mu_
};

// Runs load(rank) on a thread a rank (the first on this one); the first error by rank.
absl::Status OnEachRank(int num_ranks, const std::function<absl::Status(int rank)>& load) {
  std::vector<absl::Status> statuses(static_cast<size_t>(num_ranks));
  std::vector<std::thread> threads;
  for (int rank = 1; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] { statuses[static_cast<size_t>(rank)] = load(rank); });
  }
  statuses[0] = load(0);
  for (std::thread& thread : threads) thread.join();
  for (absl::Status& status : statuses) TRIREME_RETURN_IF_ERROR(std::move(status));
  return absl::OkStatus();
}

}  // namespace

bool OnGpus(const LoadOptions& options) {
  return options.device == "cuda" || (options.device == "auto" && CountCudaDevices().ok());
}

absl::Status CheckDevices(const LoadOptions& options) {
  if (!OnGpus(options)) {
    if (options.gemm != "own") {
      return absl::InvalidArgumentError(
          StrCat("--gemm ", options.gemm,
                 ": GPUs have it; leave it out, or use --device cuda where there are"));
    }
    if (options.num_ranks == 1) return absl::OkStatus();
    return absl::InvalidArgumentError(
        StrCat("--tensor-parallel-size ", options.num_ranks,
               ": the model is shared by GPUs only; leave it out, or use --device cuda where there "
               "are"));
  }
  TRIREME_ASSIGN_OR_RETURN(const int devices, CountCudaDevices());
  if (options.gemm != "own" && !HasCublasLt()) {
    return absl::InvalidArgumentError(
        StrCat("--gemm ", options.gemm, ": this build has no cuBLASLt (CMake's TRIREME_CUBLASLT)"));
  }
  if (devices < options.ranks_here()) {
    const std::string flag = StrCat("--tensor-parallel-size ", options.num_ranks);
    return absl::InvalidArgumentError(options.group.alone()
                                          ? StrCat(flag, ": this machine shows ", devices, " GPUs")
                                          : StrCat(flag, " on ", options.group.num_nodes,
                                                   " nodes: each needs ", options.ranks_here(),
                                                   " GPUs; this machine shows ", devices));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ModelRank>> LoadRanks(const LoadOptions& options,
                                                 const ModelFiles& files,
                                                 const SchedulerOptions& scheduler,
                                                 const std::string& group,
                                                 const LoadProgress& progress) {
  const bool cuda = OnGpus(options);
  const int num_ranks = options.ranks_here();
  const int first_rank = options.group.follows() ? options.group.node_rank * num_ranks : 0;
  const int num_threads = options.num_threads > 0 ? options.num_threads : AvailableCpus();
  std::vector<std::shared_ptr<CudaCommunicator>> communicators(static_cast<size_t>(num_ranks));
  if (options.num_ranks > 1) {
    TRIREME_ASSIGN_OR_RETURN(communicators,
                             JoinRanks(group, options.num_ranks, first_rank, num_ranks));
  }
  const DType dtype = MostlyF16(*files.checkpoint) ? DType::kF16 : DType::kBF16;
  const DecoderLimits limits = DecoderLimitsOf(scheduler);
  SharedProgress shared(progress, num_ranks);
  std::vector<ModelRank> ranks(static_cast<size_t>(num_ranks));
  std::shared_ptr<PackedWeights> packed;  // of the CPU, which is one rank
  if (cuda && !options.packed_weights.empty()) {
    Log(LogLevel::kInfo, "weights are not kept: they are packed for the CPU, the model is on GPUs");
  }
  const auto load = [&](int index) -> absl::Status {
    ModelRank& rank = ranks[static_cast<size_t>(index)];
    if (cuda) {
      TRIREME_ASSIGN_OR_RETURN(
          rank.backend,
          MakeCudaBackend({.device = index,
                           .num_threads = std::max(1, num_threads / num_ranks),
                           .communicator = communicators[static_cast<size_t>(index)],
                           .dtype = dtype,
                           .gemm = options.gemm == "own" ? Gemm::kOwn : Gemm::kCublasLt}));
    } else {
      if (!options.packed_weights.empty()) {
        packed = PackedWeights::Open(options.packed_weights, files.checkpoint->Files());
      }
      TRIREME_ASSIGN_OR_RETURN(rank.backend,
                               MakeCpuBackend({.num_threads = num_threads, .packed = packed}));
    }
    TRIREME_ASSIGN_OR_RETURN(const Shard shard,
                             Shard::Of(files.spec, first_rank + index, options.num_ranks));
    TRIREME_RETURN_IF_ERROR(rank.backend->Reserve(StepLimitsOf(shard, limits, scheduler)));
    const LoadProgress of_rank = shared.Of(index);
    TRIREME_ASSIGN_OR_RETURN(
        rank.decoder, Decoder::Load(shard, *files.checkpoint, *rank.backend, limits, of_rank));
    return absl::OkStatus();
  };
  if (absl::Status status = OnEachRank(num_ranks, load); !status.ok()) {
    return Annotate(status, options.model);
  }
  if (packed != nullptr) {
    Log(LogLevel::kInfo, "packed weights",
        {{"mapped", packed->num_found()}, {"packed_anew", packed->num_added()}});
    packed->StartWriting();
  }
  return ranks;
}

std::string DescribeRanks(const std::vector<ModelRank>& ranks, int num_ranks) {
  const std::string first = ranks[0].backend->Describe();
  return num_ranks == 1 ? first : StrCat(first, " and ", num_ranks - 1, " more");
}

FreeMemory LeastMemory(const std::vector<ModelRank>& ranks) {
  FreeMemory least = ranks[0].backend->Memory();
  for (const ModelRank& rank : ranks) {
    const FreeMemory memory = rank.backend->Memory();
    if (memory.bytes < least.bytes) least = memory;  // unknown is least
  }
  return least;
}

}  // namespace trireme
