// Paged attention (FlashAttention-2, Dao, 2023, over PagedAttention, Kwon et al., 2023) on the
// matrix units of sm_80 and later: prefill, chunked prefill and decode in one arithmetic.
//
// Batch invariance: KV is cut into chunks of kChunk positions from position 0, each walked in tiles
// of fixed size, each giving (O, m, l) from scratch; a row's chunks are merged in ascending order
// by one formula. Whether one CTA walks all chunks of a row (prefill) or each chunk has a warp of
// its own and a second kernel merges (decode) depends on the sequence's own share of the step at
// most, and gives the same bits. Rows are (query token, head of the group) pairs, 16 to a warp.
//
// On Hopper prefill has a kernel of its own (hopper.cuh: wgmma, after FlashAttention-3, Shah et
// al., 2024) with the same chunks, tiles and order of operations.
#pragma once

#include <limits>
#include <vector>

#include "absl/types/span.h"
#include "kernels/cuda/batch.h"

namespace trireme::cuda {

inline constexpr int kChunk = 256;    // KV positions
inline constexpr int kWarpRows = 16;  // rows of a warp, and of a decode item
// Rows of a prefill item: four warps, or two warpgroups (Hopper).
inline constexpr int kPrefillRows = 64, kHopperPrefillRows = 128;
// Of the current device.
int PrefillRows();

// The share of a sequence in the step, as SequenceSlice of runtime/backend/backend.h.
struct QuerySlice {
  int sequence = 0;  // row of the block tables
  int first_token = 0, num_tokens = 0;
  int64_t first_position = 0;
};

// A piece of work: query tokens of one sequence, and what of its KV. Device and host.
struct AttentionItem {
  int32_t sequence, first_token, num_tokens;  // in the batch
  int32_t first_position;                     // of first_token
  int32_t first_chunk, end_chunk;
  int32_t partial;  // first row of its place in the partial results, or -1: needs none
};

// The work of a step, the same for all layers of a shape. Computed on the host, a pure function of
// its arguments.
//   prefill: walks its chunks in order and writes to `out`. `partial`: where the running state is
//     kept between chunks, for head_dim where registers do not hold it
//   decode: one chunk. `partial`: where it goes; -1: the sequence has no other chunk, writes to
//   `out` merge: a decode item's rows, all of its chunks, one after the other from `partial`
// The place of an item, or of its chunk, is num_tokens * num_heads rows: (token, head).
struct AttentionWork {
  std::vector<AttentionItem> prefill, decode;
  std::vector<AttentionItem> merge;  // decode rows of more than one chunk
  int64_t partial_rows = 0;
};
struct AttentionShape {
  int num_heads = 0, num_kv_heads = 0, head_dim = 0, window = 0;
  int prefill_rows = kPrefillRows;  // PrefillRows() of the device that does the work
};
// What the arrays of a plan have room for. A slice whose pieces do not fit is walked by one CTA, as
// a long prompt is: slower on an idle device, and the same bits.
struct AttentionCapacity {
  int items = std::numeric_limits<int>::max();  // of each kind; at least one a query token
  // Beyond those of prefill items of a head_dim that FoldsInMemory.
  int64_t partial_rows = std::numeric_limits<int64_t>::max();
};
// `work` is overwritten, and keeps its memory: a plan that has room for `capacity` allocates
// nothing.
void PlanAttention(absl::Span<const QuerySlice> slices, const AttentionShape& shape,
                   const AttentionCapacity& capacity, AttentionWork* work);
AttentionWork PlanAttention(absl::Span<const QuerySlice> slices, const AttentionShape& shape,
                            const AttentionCapacity& capacity = {});

// Whether there is a kernel: head_dim 64, 96, 128 or 256; block_size a power of two from 16 to
// 1024.
bool HasAttention(int head_dim, int block_size);
// What a row of partial results takes, in bytes: O, m and l in F32, and what aligns them to
// sectors.
inline constexpr int kPartialRowExtra = 8;
size_t PartialRowBytes(int head_dim);
// Whether a prefill item of several chunks keeps its running state in memory.
constexpr bool FoldsInMemory(int head_dim) { return head_dim > 128; }

// The same in device memory. The counts are read by the kernels, so that a graph captured for
// `max_*` items serves any step that has no more.
struct DeviceAttentionWork {
  const AttentionItem *prefill = nullptr, *decode = nullptr, *merge = nullptr;
  const int32_t* counts = nullptr;                     // [3]: prefill, decode, merge
  int max_prefill = 0, max_decode = 0, max_merge = 0;  // 0: not launched
  float* partials = nullptr;
};

// q: heads inside qkv rows, row stride q_stride elements. out: [num_tokens, num_heads * head_dim],
// row stride out_stride. Both 16-byte aligned, strides multiples of 8. Slots beyond a sequence's
// context may hold anything, NaN included; blocks that lie before every window are not read, nor
// are their entries of the table. params: scale > 0; window is the plan's; sinks: device memory.
// Of `batch` only block_tables and table_stride are read.
cudaError_t Attention(DType type, const AttentionParams& params, const KvLayerView& kv,
                      const Batch& batch, const DeviceAttentionWork& work, const void* q,
                      int64_t q_stride, void* out, int64_t out_stride, cudaStream_t stream);

}  // namespace trireme::cuda
