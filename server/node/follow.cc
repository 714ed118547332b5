#include "server/node/follow.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/base/version.h"
#include "server/node/load_ranks.h"
#include "server/ranks/control_follower.h"
#include "server/ranks/step_codec.h"

namespace trireme {
namespace {

// As the settings of the same names (server/cli/schema.cc).
absl::Status CheckStart(const v1::LeaderMessage::Start& start, const LoadOptions& options) {
  const auto in = [](int value, int max) { return value >= 1 && value <= max; };
  const bool block_size = start.block_size() == 8 || start.block_size() == 16 ||
                          start.block_size() == 32 || start.block_size() == 64;
  if (start.num_ranks() != options.num_ranks || !block_size ||
      !in(start.max_step_tokens(), 1 << 20) || !in(start.max_running(), 65536) ||
      !in(start.rank_timeout_seconds(), 3600)) {
    return absl::InvalidArgumentError("the leader's Start is malformed");
  }
  return absl::OkStatus();
}

absl::Status MakeKvCaches(const v1::LeaderMessage::KvCache& wanted, int block_size,
                          std::vector<ModelRank>* ranks) {
  for (ModelRank& rank : *ranks) {
    const auto types = rank.backend->kv_dtypes();
    const auto type = std::find_if(types.begin(), types.end(),
                                   [&](DType t) { return DTypeName(t) == wanted.dtype(); });
    if (type == types.end() || wanted.num_blocks() < 1 || wanted.num_blocks() > kMaxKvBlocks) {
      return absl::InvalidArgumentError("the leader's KvCache is malformed");
    }
    const KvShape shape = KvShape::Of(rank.decoder->shard().local, block_size, *type);
    auto kv = KvStorage::Create(shape, wanted.num_blocks(), *rank.backend);
    if (!kv.ok()) return Annotate(kv.status(), "the KV cache (--kv-cache-memory of the leader)");
    rank.kv = *std::move(kv);
  }
  return absl::OkStatus();
}

absl::Status ComputeSteps(ControlFollower& leader, const StepBounds& bounds, Ranks& ranks) {
  DecodedStep step;
  const Tensor no_logits = {nullptr, DType::kF32, bounds.max_logit_tokens, bounds.vocab_size};
  v1::FollowerMessage done;
  done.mutable_step_done();
  for (;;) {
    TRIREME_ASSIGN_OR_RETURN(const v1::LeaderMessage message, leader.Receive());
    if (message.has_stop()) return absl::OkStatus();
    TRIREME_RETURN_IF_ERROR(step.Decode(message.step(), bounds));
    ranks.Begin(step.view(), no_logits);
    TRIREME_RETURN_IF_ERROR(ranks.Wait());
    leader.Send(done);
  }
}

// `ranks` and `driven` are the caller's, who tells the leader of an error before they are
// destroyed: that may wait for the ranks of other nodes.
absl::Status LoadAndCompute(const LoadOptions& options, const ModelFiles& files,
                            const FollowEvents& events, ControlFollower& leader,
                            std::vector<ModelRank>* ranks, std::unique_ptr<Ranks>* driven) {
  const v1::LeaderMessage::Start& start = leader.start();
  TRIREME_RETURN_IF_ERROR(CheckStart(start, options));
  SchedulerOptions scheduler = options.scheduler;
  scheduler.max_step_tokens = start.max_step_tokens();
  scheduler.max_running = start.max_running();
  scheduler.block_size = start.block_size();
  TRIREME_ASSIGN_OR_RETURN(*ranks,
                           LoadRanks(options, files, scheduler, start.group(), events.progress));
  v1::FollowerMessage loaded;
  loaded.mutable_loaded();
  if (const FreeMemory memory = LeastMemory(*ranks); memory.bytes) {
    loaded.mutable_loaded()->set_free_bytes(*memory.bytes);
  }
  leader.Send(loaded);
  TRIREME_ASSIGN_OR_RETURN(const v1::LeaderMessage message, leader.Receive());
  TRIREME_RETURN_IF_ERROR(MakeKvCaches(message.kv_cache(), scheduler.block_size, ranks));
  const DecoderLimits limits = DecoderLimitsOf(scheduler);
  const StepBounds bounds = {.max_tokens = limits.max_step_tokens,
                             .max_sequences = scheduler.max_running,
                             .max_logit_tokens = limits.max_logit_tokens,
                             .vocab_size = files.spec.vocab_size,
                             .max_context = files.spec.max_context,
                             .block_size = scheduler.block_size,
                             .num_blocks = message.kv_cache().num_blocks()};
  *driven = std::make_unique<Ranks>(std::move(*ranks),
                                    std::chrono::seconds(start.rank_timeout_seconds()));
  v1::FollowerMessage ready;
  ready.mutable_ready();
  events.ready();
  leader.Send(ready);
  return ComputeSteps(leader, bounds, **driven);
}

}  // namespace

absl::Status Follow(const LoadOptions& options, const FollowEvents& events) {
  TRIREME_ASSIGN_OR_RETURN(const ModelFiles files, OpenModelFiles(options.model));
  TRIREME_RETURN_IF_ERROR(CheckDevices(options));
  v1::FollowerMessage::Hello hello;
  hello.set_version(kVersion);
  hello.set_node_rank(options.group.node_rank);
  hello.set_num_nodes(options.group.num_nodes);
  hello.set_num_devices(options.ranks_here());
  hello.set_model_digest(ModelDigest(files));
  TRIREME_ASSIGN_OR_RETURN(const auto leader,
                           ControlFollower::Join(options.group, hello, events.lost));
  std::vector<ModelRank> ranks;
  std::unique_ptr<Ranks> driven;
  absl::Status status = LoadAndCompute(options, files, events, *leader, &ranks, &driven);
  if (!status.ok()) leader->Fail(status);
  return status;
}

}  // namespace trireme
