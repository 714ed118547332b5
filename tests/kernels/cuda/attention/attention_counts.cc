// What the kernels of a step are to multiply.
#include <algorithm>

#include "tests/kernels/cuda/attention/attention_case.h"

namespace trireme::cuda {

uint64_t AttentionCase::NumMma(const std::vector<AttentionItem>& items, int warps) const {
  const int keys = options_.head_dim <= 64 ? 64 : 32;
  const int of_tile = 2 * kWarpRows * keys * options_.head_dim / (16 * 8 * 16);
  return NumTiles(items, warps * kWarpRows, kWarpRows, keys) * static_cast<uint64_t>(of_tile);
}

uint64_t AttentionCase::NumWgmma(const std::vector<AttentionItem>& items) const {
  const int dim = options_.head_dim, keys = 64;
  const int of_tile = dim / 16 + keys / 16 * (dim > 128 ? 2 : 1);
  return NumTiles(items, kHopperPrefillRows, 64, keys) * static_cast<uint64_t>(of_tile);
}

uint64_t AttentionCase::NumTiles(const std::vector<AttentionItem>& items, int item_rows, int rows,
                                 int keys) const {
  const int group = options_.num_heads / options_.num_kv_heads;
  const auto first_seen = [&](int position) {
    return options_.window > 0 ? std::max(0, position - options_.window + 1) : 0;
  };
  uint64_t tiles = 0;
  for (const AttentionItem& item : items) {
    const int all = std::min(item.num_tokens * group, item_rows);
    for (int row = 0; row < all; row += rows) {
      const int first = item.first_position + row / group;
      const int last = item.first_position + (std::min(row + rows, all) - 1) / group;
      const int begin = std::max(item.first_chunk * kChunk, first_seen(first)) / keys;
      const int end = std::min(item.end_chunk * kChunk, last + 1);
      tiles += static_cast<uint64_t>(std::max(0, (end + keys - 1) / keys - begin));
    }
  }
  return tiles * static_cast<uint64_t>(options_.num_kv_heads);
}

}  // namespace trireme::cuda
