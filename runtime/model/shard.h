// Which part of a model's tensors one of several ranks has (tensor parallelism, as in Megatron-LM,
// Shoeybi et al., 2019): projections into heads and into the MLP are cut along their rows, those
// back into the residual stream along their columns, embedding and head along the vocabulary. Each
// rank's result of the latter is a share of the sum.
//
// Every rank's part has the same shape: what does not divide evenly is filled up with zeros, which
// change no sum. Ranks fewer than KV heads: each has whole groups of heads. More ranks than KV
// heads: a KV head is kept by several, and its group of query heads is split between them.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "runtime/model/decoder_spec.h"

namespace trireme {

// Of an axis of a tensor: indices [first, first + size), then zeros up to `padded`.
struct Slice {
  int64_t first = 0, size = 0, padded = 0;
};

// An axis of a tensor: its length in the checkpoint, and what of it is loaded, one slice behind the
// other.
struct Axis {
  Axis(int64_t size) : size(size), slices({{0, size, size}}) {}  // NOLINT: all of it
  Axis(int64_t size, std::vector<Slice> slices) : size(size), slices(std::move(slices)) {}

  bool whole() const { return slices.size() == 1 && slices[0].size == size; }
  int64_t loaded() const;

  int64_t size = 0;
  std::vector<Slice> slices;
};

struct Shard {
  // All of the model.
  Shard(const DecoderSpec& spec);  // NOLINT: one rank's part of the work is all of it
  // What rank `rank` of `num_ranks` has. INVALID_ARGUMENT when the vocabulary is too small to be
  // shared.
  static absl::StatusOr<Shard> Of(const DecoderSpec& spec, int rank, int num_ranks);

  int rank = 0, num_ranks = 1;
  DecoderSpec model;  // the whole
  // The spec with this rank's heads, KV heads and MLP columns. Its vocabulary is the whole one's.
  DecoderSpec local;
  Axis q, kv, mlp, vocab;
  // Of the embedding and the head on every rank, the last ranks' filled up.
  int64_t vocab_columns = 0;
};

}  // namespace trireme
