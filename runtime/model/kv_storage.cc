#include "runtime/model/kv_storage.h"

#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {

absl::StatusOr<std::unique_ptr<KvStorage>> KvStorage::Create(const KvShape& shape, int num_blocks,
                                                             Backend& backend) {
  int64_t bytes = 0;
  if (num_blocks < 1 || __builtin_mul_overflow(shape.block_bytes(), num_blocks, &bytes)) {
    return absl::InvalidArgumentError(StrCat("cannot hold ", num_blocks, " KV blocks"));
  }
  auto memory = backend.Allocate(static_cast<size_t>(bytes));
  if (!memory.ok()) return Annotate(memory.status(), "KV cache");
  return std::unique_ptr<KvStorage>(new KvStorage(shape, num_blocks, *std::move(memory)));
}

KvLayerView KvStorage::Layer(int layer) const {
  TRIREME_DCHECK(layer >= 0 && layer < shape_.num_layers);
  KvLayerView view;
  view.k = static_cast<uint8_t*>(memory_->data()) + 2 * layer * shape_.layer_block_bytes();
  view.v = static_cast<uint8_t*>(view.k) + shape_.layer_block_bytes();
  view.dtype = shape_.dtype;
  view.num_kv_heads = shape_.num_kv_heads;
  view.block_size = shape_.block_size;
  view.head_dim = shape_.head_dim;
  view.block_stride =
      int64_t{2} * shape_.num_layers * shape_.num_kv_heads * shape_.block_size * shape_.head_dim;
  return view;
}

}  // namespace trireme
