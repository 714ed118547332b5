// What work a step's attention is. Each slice is cut by its own shape only: batch invariance.
#include <algorithm>

#include "kernels/cuda/attention/attention.h"

namespace trireme::cuda {
namespace {

// Up to so many rows, each chunk of KV has a warp of its own: four times a warp's rows, beyond
// which four warps that share what they load are better.
constexpr int kMostDecodeRows = 64;

int64_t FirstLive(int64_t position, int window) {
  return window > 0 ? std::max<int64_t>(0, position - window + 1) : 0;
}

// At most so many (tokens, chunk) pairs make up a slice.
int64_t DecodePieces(const QuerySlice& slice, const AttentionShape& shape) {
  const int64_t end = slice.first_position + slice.num_tokens;
  const int64_t first = FirstLive(slice.first_position, shape.window) / kChunk;
  const int step = std::max(1, kWarpRows / (shape.num_heads / shape.num_kv_heads));
  return ((end + kChunk - 1) / kChunk - first) * ((slice.num_tokens + step - 1) / step);
}

}  // namespace

void PlanAttention(absl::Span<const QuerySlice> slices, const AttentionShape& shape,
                   const AttentionCapacity& capacity, AttentionWork* plan) {
  AttentionWork& work = *plan;
  work.prefill.clear();
  work.decode.clear();
  work.merge.clear();
  work.partial_rows = 0;
  const int group = shape.num_heads / shape.num_kv_heads;
  int64_t items_left = capacity.items, rows_left = capacity.partial_rows;
  for (const QuerySlice& slice : slices) {
    const int64_t pieces = DecodePieces(slice, shape);
    const int64_t piece_rows =
        pieces * std::min(slice.num_tokens, std::max(1, kWarpRows / group)) * shape.num_heads;
    const bool decode = slice.num_tokens * group <= kMostDecodeRows && pieces <= items_left &&
                        piece_rows <= rows_left;
    if (decode) {
      items_left -= pieces;
      rows_left -= piece_rows;
    }
    const int rows = decode ? kWarpRows : shape.prefill_rows;
    const int step = std::max(1, rows / group);
    for (int t = 0; t < slice.num_tokens; t += step) {
      AttentionItem item;
      item.sequence = slice.sequence;
      item.first_token = slice.first_token + t;
      item.num_tokens = std::min(step, slice.num_tokens - t);
      const int64_t position = slice.first_position + t, end = position + item.num_tokens;
      item.first_position = static_cast<int32_t>(position);
      item.first_chunk = static_cast<int32_t>(FirstLive(position, shape.window) / kChunk);
      item.end_chunk = static_cast<int32_t>((end + kChunk - 1) / kChunk);
      item.partial = -1;
      const int chunks = item.end_chunk - item.first_chunk;
      const int64_t result_rows = int64_t{item.num_tokens} * shape.num_heads;
      if (!decode) {
        if (chunks > 1 && FoldsInMemory(shape.head_dim)) {
          item.partial = static_cast<int32_t>(work.partial_rows);
          work.partial_rows += result_rows;
        }
        work.prefill.push_back(item);
      } else if (chunks == 1) {
        work.decode.push_back(item);
      } else {
        item.partial = static_cast<int32_t>(work.partial_rows);
        work.merge.push_back(item);
        for (int chunk = item.first_chunk; chunk < item.end_chunk; ++chunk) {
          AttentionItem piece = item;
          piece.first_chunk = chunk;
          piece.end_chunk = chunk + 1;
          piece.partial = static_cast<int32_t>(work.partial_rows);
          work.partial_rows += result_rows;
          work.decode.push_back(piece);
        }
      }
    }
  }
  // The longest first, so that the last CTAs to end have little left. (A stable sort would
  // allocate.)
  std::sort(work.prefill.begin(), work.prefill.end(),
            [](const AttentionItem& a, const AttentionItem& b) {
              const int of_a = a.end_chunk - a.first_chunk, of_b = b.end_chunk - b.first_chunk;
              return of_a != of_b ? of_a > of_b : a.first_token < b.first_token;
            });
}

AttentionWork PlanAttention(absl::Span<const QuerySlice> slices, const AttentionShape& shape,
                            const AttentionCapacity& capacity) {
  AttentionWork work;
  PlanAttention(slices, shape, capacity, &work);
  return work;
}

bool HasAttention(int head_dim, int block_size) {
  const bool dim = head_dim == 64 || head_dim == 96 || head_dim == 128 || head_dim == 256;
  return dim && block_size >= 16 && block_size <= 1024 && (block_size & (block_size - 1)) == 0;
}

size_t PartialRowBytes(int head_dim) {
  return sizeof(float) * (static_cast<size_t>(head_dim) + kPartialRowExtra);
}

}  // namespace trireme::cuda
