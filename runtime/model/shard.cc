#include "runtime/model/shard.h"

#include <algorithm>

#include "runtime/base/check.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

// Columns of matrices are cut at multiples of a block of the quantised formats that are computed as
// they are stored, rows at multiples of what the kernels store at a time.
constexpr int64_t kColumnGranule = 32, kRowGranule = 8;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The share of rank `rank`, of [0, size), in granules.
Slice Share(int64_t size, int64_t granule, int rank, int num_ranks) {
  const int64_t padded = CeilDiv(CeilDiv(size, num_ranks), granule) * granule;
  const int64_t first = std::min(size, rank * padded);
  return {first, std::min(size - first, padded), padded};
}

}  // namespace

int64_t Axis::loaded() const {
  int64_t sum = 0;
  for (const Slice& slice : slices) sum += slice.padded;
  return sum;
}

Shard::Shard(const DecoderSpec& spec)
    : model(spec),
      local(spec),
      q(spec.q_size()),
      kv(spec.kv_size()),
      mlp(spec.mlp_size),
      vocab(spec.vocab_size),
      vocab_columns(spec.vocab_size) {}

absl::StatusOr<Shard> Shard::Of(const DecoderSpec& spec, int rank, int num_ranks) {
  TRIREME_CHECK(rank >= 0 && rank < num_ranks);
  Shard shard(spec);
  if (num_ranks == 1) return shard;
  shard.rank = rank;
  shard.num_ranks = num_ranks;

  // A slot: a KV head, and the query heads that one rank computes with it.
  const int group = spec.num_heads / spec.num_kv_heads;
  const int copies = std::max(1, num_ranks / spec.num_kv_heads);  // of a KV head
  const auto slots = static_cast<int>(CeilDiv(int64_t{spec.num_kv_heads} * copies, num_ranks));
  const auto slot_heads = static_cast<int>(CeilDiv(group, copies));
  const int64_t dim = spec.head_dim;
  shard.q.slices.clear();
  shard.kv.slices.clear();
  for (int slot = rank * slots; slot < (rank + 1) * slots; ++slot) {
    const int kv_head = slot / copies;
    const bool exists = kv_head < spec.num_kv_heads;
    const int first = std::min(group, slot % copies * slot_heads);  // head of the group
    const int heads = exists ? std::min(slot_heads, group - first) : 0;
    shard.q.slices.push_back(
        {exists ? (kv_head * group + first) * dim : 0, heads * dim, slot_heads * dim});
    shard.kv.slices.push_back({exists ? kv_head * dim : 0, exists ? dim : 0, dim});
  }
  shard.mlp.slices = {Share(spec.mlp_size, kColumnGranule, rank, num_ranks)};
  const Slice vocab = Share(spec.vocab_size, kRowGranule, rank, num_ranks);
  if (Share(spec.vocab_size, kRowGranule, num_ranks - 1, num_ranks).size == 0) {
    return absl::InvalidArgumentError(StrCat("a vocabulary of ", spec.vocab_size,
                                             " is too small to be shared by ", num_ranks,
                                             " ranks"));
  }
  shard.vocab.slices = {{vocab.first, vocab.size, vocab.size}};
  shard.vocab_columns = vocab.padded;
  shard.local.num_kv_heads = slots;
  shard.local.num_heads = slots * slot_heads;
  shard.local.mlp_size = static_cast<int>(shard.mlp.loaded());
  return shard;
}

}  // namespace trireme
