// The memory of the paged KV cache: who owns which block is runtime/kv's business, what is in it is
// ours.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "runtime/backend/backend.h"
#include "runtime/model/decoder_spec.h"

namespace trireme {

// One block holds `block_size` consecutive positions of one sequence, in every layer.
struct KvShape {
  int num_layers = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int block_size = 16;
  DType dtype = DType::kF16;  // F32, F16 or BF16

  static KvShape Of(const DecoderSpec& spec, int block_size, DType dtype) {
    return {spec.num_layers, spec.num_kv_heads, spec.head_dim, block_size, dtype};
  }
  // Of K (as many again of V) of one block in one layer.
  int64_t layer_block_bytes() const {
    return int64_t{num_kv_heads} * block_size * RowBytes(dtype, head_dim);
  }
  // Of one block: K and V in all layers.
  int64_t block_bytes() const { return 2 * num_layers * layer_block_bytes(); }
};

// Immutable after creation but for the content of the blocks, which belongs to the backend's
// thread.
class KvStorage {
 public:
  // RESOURCE_EXHAUSTED when the backend has not got num_blocks * block_bytes. The backend must
  // outlive the storage. The content is undefined: a slot is written before it is read.
  static absl::StatusOr<std::unique_ptr<KvStorage>> Create(const KvShape& shape, int num_blocks,
                                                           Backend& backend);

  const KvShape& shape() const { return shape_; }
  int num_blocks() const { return num_blocks_; }
  KvLayerView Layer(int layer) const;

 private:
  KvStorage(const KvShape& shape, int num_blocks, std::unique_ptr<Buffer> memory)
      : shape_(shape), num_blocks_(num_blocks), memory_(std::move(memory)) {}

  const KvShape shape_;
  const int num_blocks_;
  // Block by block; in a block layer by layer, K, then V. What a sequence has not got is not
  // touched, and a block can be moved as a whole.
  const std::unique_ptr<Buffer> memory_;
};

}  // namespace trireme
