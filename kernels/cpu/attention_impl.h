// Attention and the paged KV store of kernels/ops.h over the vector of one instruction set:
// included by attention_<isa>.cc after simd_<isa>.h.
//
// Rows are (query token, query head) pairs that share one KV head. Up to kMaxRows of them walk the
// KV in tiles of kTile positions, counted from position 0, with a running maximum and sum per row
// (online softmax):
//
//     scores  S[row, position] += q[row, d] * K[d, position]      K lies transposed in its blocks
//     softmax S = exp(S - max), rescaling the row's accumulator when the maximum grows
//     values  A[row, d] += S[row, position] * V[position, d]
//
// Both products are one micro-kernel (mini-GEMM): an element of the result is a single chain of
// multiply-adds in ascending order of the inner index, over exactly the positions that the row
// sees. So a row's bits depend neither on the rows computed beside it nor on how the tile was
// brought in:
//
//   - in place, when the rows fit one micro-kernel (decode): elements are widened as they are
//   loaded;
//   - gathered to float scratch, when many rows share the tile (prefill) or the shape is odd:
//   widened once.
#pragma once

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd.h"

namespace trireme::cpu {
namespace {

constexpr int kTile = 64;      // KV positions
constexpr int kMaxRows = 64;   // rows per pass over the KV
constexpr int kMicroRows = 6;  // rows per micro-kernel
constexpr int kTileVectors = kTile / kWidth;

inline int64_t RoundUp(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
inline int64_t Smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t Larger(int64_t a, int64_t b) { return a < b ? b : a; }

// ---- The micro-kernel: c[row, vector v] += a[row, k] * b[v][k * b_stride] for k in [begin, end).

template <class T>
struct Product {
  const float* a;  // [rows, ...], rows a_stride apart
  int64_t a_stride;
  const T* const* b;
  int64_t b_stride;
  int begin, end;
  float* c;  // [rows, num_vectors * kWidth], rows c_stride apart
  int64_t c_stride;
};

// All of c's tile stays in registers.
template <int kRows, int kVectors, class T>
inline void MultiplyTile(const Product<T>& p, int first_vector) {
  Vec sum[kRows][kVectors];
  const T* b[kVectors];
  float* c = p.c + first_vector * kWidth;
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    b[v] = p.b[first_vector + v] + p.begin * p.b_stride;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum[r][v] = Load(c + r * p.c_stride + v * kWidth);
  }
  for (int k = p.begin; k < p.end; ++k) {
    // One operand is held, the other passes through one register: 3 x 4 and 6 x 2 just fit 16
    // registers.
    if constexpr (kRows < kVectors) {
      Vec weight[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) weight[r] = Broadcast(p.a[r * p.a_stride + k]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const Vec x = Load(b[v]);
        b[v] += p.b_stride;
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) sum[r][v] = Fma(weight[r], x, sum[r][v]);
      }
    } else {
      Vec x[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        x[v] = Load(b[v]);
        b[v] += p.b_stride;
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const Vec weight = Broadcast(p.a[r * p.a_stride + k]);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sum[r][v] = Fma(weight, x[v], sum[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) Store(c + r * p.c_stride + v * kWidth, sum[r][v]);
  }
}

template <int kRows, class T>
void MultiplyRows(const Product<T>& p, int first_vector, int end_vector) {
  // Enough accumulators to hide the latency of a multiply-add, but no more than registers: 32 in
  // AVX-512, else 16.
  constexpr bool kWide = kWidth == 16 || kRows <= 3;
  int v = first_vector;
  if constexpr (kRows == 1) {
    for (; v + 8 <= end_vector; v += 8) MultiplyTile<1, 8>(p, v);
  }
  if constexpr (kWide) {
    for (; v + 4 <= end_vector; v += 4) MultiplyTile<kRows, 4>(p, v);
  }
  for (; v + 2 <= end_vector; v += 2) MultiplyTile<kRows, 2>(p, v);
  if (v < end_vector) MultiplyTile<kRows, 1>(p, v);
}

template <class T>
inline void Multiply(int rows, const Product<T>& p, int first_vector, int end_vector) {
  switch (rows) {
    case 1:
      return MultiplyRows<1>(p, first_vector, end_vector);
    case 2:
      return MultiplyRows<2>(p, first_vector, end_vector);
    case 3:
      return MultiplyRows<3>(p, first_vector, end_vector);
    case 4:
      return MultiplyRows<4>(p, first_vector, end_vector);
    case 5:
      return MultiplyRows<5>(p, first_vector, end_vector);
    default:
      return MultiplyRows<kMicroRows>(p, first_vector, end_vector);
  }
}

// ---- Tiles

// Where the elements of one KV tile of one head are.
template <class T>
struct Tile {
  // k[i]: dimension 0 of positions [i * kWidth, (i + 1) * kWidth); the next dimension is k_stride
  // further.
  const T* k[kTileVectors];
  int64_t k_stride;
  // v[i]: dimension 0 of position i * v_span; the next of v_span positions is v_stride further.
  const T* v[kTileVectors];
  int v_span;
  int64_t v_stride;
};

// One KV head's blocks.
template <class T>
struct KvHead {
  const T* k;
  const T* v;
  int64_t block_stride;  // elements from a block to the next
  int block_size;
  int head_dim;
  const BlockId* blocks;

  KvHead(const KvLayerView& kv, int head, const BlockId* block_table)
      : block_stride(int64_t{kv.num_kv_heads} * kv.block_size * kv.head_dim),
        block_size(kv.block_size),
        head_dim(kv.head_dim),
        blocks(block_table) {
    const int64_t offset = int64_t{head} * block_size * head_dim;
    k = static_cast<const T*>(kv.k) + offset;
    v = static_cast<const T*>(kv.v) + offset;
  }
  // Element 0 of the block that holds `position`, relative to k and v. 32 bits divide three times
  // faster than 64.
  int64_t BlockOffset(int64_t position) const {
    return blocks[static_cast<uint32_t>(position) / static_cast<uint32_t>(block_size)] *
           block_stride;
  }
  int SlotOf(int64_t position) const {
    return static_cast<int>(static_cast<uint32_t>(position) % static_cast<uint32_t>(block_size));
  }
};

// Positions [begin, begin + count), count > 0, where they are. Blocks and tiles do not straddle
// each other.
template <class T>
Tile<T> TileInPlace(const KvHead<T>& head, int64_t begin, int count) {
  Tile<T> tile;
  tile.k_stride = head.block_size;
  tile.v_stride = head.head_dim;
  tile.v_span = static_cast<int>(Smaller(head.block_size, kTile));
  const T** k = tile.k;
  const T** v = tile.v;
  const int slot = head.SlotOf(begin);
  for (int done = 0; done < count; done += tile.v_span) {
    const int64_t offset = head.BlockOffset(begin + done);
    *v++ = head.v + offset + int64_t{slot} * head.head_dim;
    for (int i = 0; i < tile.v_span; i += kWidth) *k++ = head.k + offset + slot + i;
  }
  return tile;
}

// Asks for the cache lines of the keys or values (`base`) of positions [begin, begin + count); none
// if count <= 0. Inlined by force: GCC 12 takes a function that only prefetches for one without
// effect and drops the call.
template <class T>
__attribute__((always_inline)) inline void PrefetchTile(const KvHead<T>& head, const T* base,
                                                        int64_t begin, int64_t count) {
  constexpr int64_t kLine = 64 / sizeof(T);
  const int64_t block_elements = int64_t{head.block_size} * head.head_dim;
  for (int64_t p = begin; p < begin + count; p += head.block_size) {
    const int64_t offset = head.BlockOffset(p);
    for (int64_t i = 0; i < block_elements; i += kLine) __builtin_prefetch(base + offset + i);
  }
}

// Widens a [rows, cols] matrix.
template <class T>
inline void WidenMatrix(const T* from, int64_t from_stride, int64_t rows, int64_t cols, float* to,
                        int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r, from += from_stride, to += to_stride) {
    ForEachVector(cols, [=](auto load, auto store) { store(to, load(from)); });
  }
}

// Positions [begin, begin + count) widened to k [head_dim, kTile] and v [kTile, padded_dim];
// nothing is written to the padding, whose products nobody reads.
template <class T>
Tile<float> GatherTile(const KvHead<T>& head, int64_t begin, int count, int64_t padded_dim,
                       float* k, float* v) {
  for (int done = 0; done < count;) {
    const int64_t position = begin + done;
    const int64_t offset = head.BlockOffset(position);
    const int slot = head.SlotOf(position);
    const int span = static_cast<int>(Smaller(head.block_size - slot, count - done));
    WidenMatrix(head.k + offset + slot, head.block_size, head.head_dim, span, k + done, kTile);
    WidenMatrix(head.v + offset + int64_t{slot} * head.head_dim, head.head_dim, span, head.head_dim,
                v + done * padded_dim, padded_dim);
    done += span;
  }
  Tile<float> tile;
  tile.k_stride = kTile;
  tile.v_stride = padded_dim;
  tile.v_span = kTile;
  for (int i = 0; i < kTileVectors; ++i) tile.k[i] = k + i * kWidth;
  tile.v[0] = v;
  return tile;
}

// ---- Rows

struct Scratch {
  int64_t padded_dim;  // head_dim in whole vectors
  float* q;            // [kMaxRows, head_dim], scaled
  float* acc;          // [kMaxRows, padded_dim]
  float* scores;       // [kMaxRows, kTile]
  float* max;          // [kMaxRows]
  float* sum;          // [kMaxRows]
  float* k;            // [head_dim, kTile]
  float* v;            // [kTile, padded_dim]

  static int64_t Floats(int64_t head_dim) {
    return (RoundUp(head_dim, 16) * 2 + kTile + 2) * kMaxRows + RoundUp(head_dim, 16) * 2 * kTile;
  }
  Scratch(void* memory, int head_dim) : padded_dim(RoundUp(head_dim, kWidth)) {
    float* next = static_cast<float*>(memory);
    const auto take = [&next](int64_t count) { return (next += count) - count; };
    q = take(RoundUp(head_dim, 16) * kMaxRows);
    acc = take(RoundUp(head_dim, 16) * kMaxRows);
    scores = take(kTile * kMaxRows);
    max = take(kMaxRows);
    sum = take(kMaxRows);
    k = take(RoundUp(head_dim, 16) * kTile);
    v = take(RoundUp(head_dim, 16) * kTile);
  }
};

// Rows of one KV head: row r is head first_head + r % num_heads of token r / num_heads.
struct RowSet {
  int first_head, num_heads;
  int64_t first_position;
  int64_t begin, end;  // the rows of this pass

  int64_t TokenOf(int64_t row) const { return row / num_heads; }
  int HeadOf(int64_t row) const { return first_head + static_cast<int>(row % num_heads); }
  int64_t PositionOf(int64_t row) const { return first_position + row / num_heads; }
};

struct Range {
  int begin, end;
  bool operator==(const Range&) const = default;
};

// The part of the tile that starts at `tile_begin` which a query at `position` sees; empty: begin
// >= end.
inline Range VisiblePart(const AttentionParams& params, int64_t position, int64_t tile_begin) {
  const int64_t first = params.window > 0 ? position - params.window + 1 : 0;
  return {static_cast<int>(Smaller(Larger(first - tile_begin, 0), kTile)),
          static_cast<int>(Larger(Smaller(position + 1 - tile_begin, kTile), 0))};
}

// Calls body(row, count, range) for runs of up to kMicroRows rows that see the same, non-empty part
// of the tile. `row` counts from rows.begin.
template <class Body>
inline void ForEachRun(const AttentionParams& params, const RowSet& rows, int64_t tile_begin,
                       Body body) {
  for (int64_t row = rows.begin; row < rows.end;) {
    const Range range = VisiblePart(params, rows.PositionOf(row), tile_begin);
    int64_t end = row + 1;
    while (end < rows.end && end - row < kMicroRows &&
           VisiblePart(params, rows.PositionOf(end), tile_begin) == range) {
      ++end;
    }
    if (range.begin < range.end) {
      body(static_cast<int>(row - rows.begin), static_cast<int>(end - row), range);
    }
    row = end;
  }
}

inline void Scale(float* x, int64_t n, float factor) {  // n: whole vectors
  const Vec f = Broadcast(factor);
  for (int64_t i = 0; i < n; i += kWidth) Store(x + i, Load(x + i) * f);
}

inline void CapScores(float cap, float* scores) {
  const Vec c = Broadcast(cap);
  for (int i = 0; i < kTile; i += kWidth) Store(scores + i, c * Tanh(Load(scores + i) / c));
}

inline void HideScoresOutside(Range range, float* scores) {
  const Vec hidden = Broadcast(-__builtin_inff());
  for (int i = 0; i < kTile; i += kWidth) {
    const Mask visible = LanesBetween(range.begin - i, range.end - i);
    Store(scores + i, Select(visible, Load(scores + i), hidden));
  }
}

// Turns one row's scores into weights e^(score - max), zero outside `range`, and brings max, sum
// and acc up to date.
void Softmax(const AttentionParams& params, Range range, int row, const Scratch& scratch) {
  float* scores = scratch.scores + row * kTile;
  if (params.soft_cap > 0) CapScores(params.soft_cap, scores);
  if (range != Range{0, kTile}) HideScoresOutside(range, scores);
  Vec max[2] = {Load(scores), Load(scores + kWidth)};
#pragma GCC unroll 16
  for (int i = 2; i < kTileVectors; ++i) max[i % 2] = Max(Load(scores + i * kWidth), max[i % 2]);
  const float tile_max = ReduceMax(Max(max[0], max[1]));
  if (tile_max > scratch.max[row]) {
    float rescale[kWidth];
    Store(rescale, Exp(Broadcast(scratch.max[row] - tile_max)));
    Scale(scratch.acc + row * scratch.padded_dim, scratch.padded_dim, rescale[0]);
    scratch.sum[row] *= rescale[0];
    scratch.max[row] = tile_max;
  }
  const Vec row_max = Broadcast(scratch.max[row]);
  LaneSum sum;
#pragma GCC unroll 16
  for (int i = 0; i < kTileVectors; ++i) {
    const Vec weight = Exp(Load(scores + i * kWidth) - row_max);
    Store(scores + i * kWidth, weight);
    sum.part[i % kSumParts] = sum.part[i % kSumParts] + weight;
  }
  scratch.sum[row] += sum.Total();
}

// Scores of all rows over one tile, made weights.
template <class T>
void WeighTile(const AttentionParams& params, const RowSet& rows, int64_t tile_begin, int head_dim,
               const Tile<T>& tile, const Scratch& scratch) {
  ForEachRun(params, rows, tile_begin, [&](int row, int count, Range range) {
    float* scores = scratch.scores + row * kTile;
    std::memset(scores, 0, sizeof(float) * kTile * count);
    Multiply(count,
             Product<T>{scratch.q + row * head_dim, head_dim, tile.k, tile.k_stride, 0, head_dim,
                        scores, kTile},
             range.begin / kWidth, (range.end + kWidth - 1) / kWidth);
    for (int i = 0; i < count; ++i) Softmax(params, range, row + i, scratch);
  });
}

// Adds one tile's weighted values to all rows.
template <class T>
void AddValues(const AttentionParams& params, const RowSet& rows, int64_t tile_begin,
               const Tile<T>& tile, const Scratch& scratch) {
  ForEachRun(params, rows, tile_begin, [&](int row, int count, Range range) {
    for (int i = range.begin / tile.v_span; i * tile.v_span < range.end; ++i) {
      const int base = i * tile.v_span;
      const int begin = static_cast<int>(Larger(range.begin - base, 0));
      const int end = static_cast<int>(Smaller(range.end - base, tile.v_span));
      for (int64_t d = 0; d < scratch.padded_dim; d += kTile) {
        const T* columns[kTileVectors];
        for (int v = 0; v < kTileVectors; ++v) columns[v] = tile.v[i] + d + v * kWidth;
        Multiply(
            count,
            Product<T>{scratch.scores + row * kTile + base, kTile, columns, tile.v_stride, begin,
                       end, scratch.acc + row * scratch.padded_dim + d, scratch.padded_dim},
            0, static_cast<int>(Smaller(scratch.padded_dim - d, kTile)) / kWidth);
      }
    }
  });
}

struct Io {
  const float* q;
  int64_t q_stride;
  float* out;
  int64_t out_stride;
};

void BeginRows(const AttentionParams& params, const RowSet& rows, int head_dim, const Io& io,
               const Scratch& scratch) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const int64_t i = row - rows.begin;
    const int head = rows.HeadOf(row);
    const float* q = io.q + rows.TokenOf(row) * io.q_stride + int64_t{head} * head_dim;
    float* scaled = scratch.q + i * head_dim;
    const Vec scale = Broadcast(params.scale);
    ForEachVector(head_dim, [=](auto load, auto store) { store(scaled, load(q) * scale); });
    std::memset(scratch.acc + i * scratch.padded_dim, 0, sizeof(float) * scratch.padded_dim);
    // A sink is a score that belongs to no position.
    scratch.max[i] = params.sinks ? params.sinks[head] : -__builtin_inff();
    scratch.sum[i] = params.sinks ? 1.0f : 0.0f;
  }
}

void FinishRows(const RowSet& rows, int head_dim, const Io& io, const Scratch& scratch) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const int64_t i = row - rows.begin;
    float* out = io.out + rows.TokenOf(row) * io.out_stride + int64_t{rows.HeadOf(row)} * head_dim;
    const float* acc = scratch.acc + i * scratch.padded_dim;
    const Vec inverse = Broadcast(1.0f / scratch.sum[i]);
    ForEachVector(head_dim, [=](auto load, auto store) { store(out, load(acc) * inverse); });
  }
}

// One pass over the KV that the rows see.
template <class T>
void AttendRows(const AttentionParams& params, const KvHead<T>& head, const RowSet& rows,
                const Io& io, const Scratch& scratch) {
  BeginRows(params, rows, head.head_dim, io, scratch);
  const int64_t end = rows.PositionOf(rows.end - 1) + 1;
  const int64_t first_seen =
      params.window > 0 ? Larger(rows.PositionOf(rows.begin) - params.window + 1, 0) : 0;
  const bool in_place = rows.end - rows.begin <= kMicroRows && head.head_dim % kWidth == 0 &&
                        head.block_size % kWidth == 0 &&
                        (kTile % head.block_size == 0 || head.block_size % kTile == 0);
  for (int64_t begin = first_seen / kTile * kTile; begin < end; begin += kTile) {
    const int count = static_cast<int>(Smaller(kTile, end - begin));
    if (in_place) {
      const Tile<T> tile = TileInPlace(head, begin, count);
      const int64_t next = begin + kTile, next_count = Smaller(kTile, end - next);
      PrefetchTile(head, head.k, next, next_count);
      WeighTile(params, rows, begin, head.head_dim, tile, scratch);
      PrefetchTile(head, head.v, next, next_count);
      AddValues(params, rows, begin, tile, scratch);
    } else {
      const Tile<float> tile =
          GatherTile(head, begin, count, scratch.padded_dim, scratch.k, scratch.v);
      WeighTile(params, rows, begin, head.head_dim, tile, scratch);
      AddValues(params, rows, begin, tile, scratch);
    }
  }
  FinishRows(rows, head.head_dim, io, scratch);
}

template <class T>
void AttendHeads(const AttentionParams& params, const KvLayerView& kv, const BlockId* blocks,
                 int64_t first_position, int64_t num_tokens, int head_begin, int head_end,
                 const Io& io, const Scratch& scratch) {
  const int group = params.num_heads / kv.num_kv_heads;
  for (int first = head_begin; first < head_end;) {
    const int kv_head = first / group;
    const int end = static_cast<int>(Smaller(head_end, (kv_head + 1) * group));
    const KvHead<T> head(kv, kv_head, blocks);
    RowSet rows{first, end - first, first_position, 0, 0};
    const int64_t num_rows = num_tokens * rows.num_heads;
    for (; rows.begin < num_rows; rows.begin = rows.end) {
      rows.end = Smaller(rows.begin + kMaxRows, num_rows);
      AttendRows(params, head, rows, io, scratch);
    }
    first = end;
  }
}

void Attention(const AttentionParams& params, const KvLayerView& kv,
               absl::Span<const BlockId> blocks, int64_t first_position, int64_t num_tokens,
               int head_begin, int head_end, const float* q, int64_t q_stride, float* out,
               int64_t out_stride, void* scratch_memory) {
  const Io io{q, q_stride, out, out_stride};
  const Scratch scratch(scratch_memory, kv.head_dim);
  const auto attend = [&](auto element) {
    AttendHeads<decltype(element)>(params, kv, blocks.data(), first_position, num_tokens,
                                   head_begin, head_end, io, scratch);
  };
  if (kv.dtype == DType::kF32) return attend(float{});
  if (kv.dtype == DType::kBF16) return attend(BF16{});
  attend(F16{});
}

int64_t AttentionScratchBytes(const AttentionParams&, const KvLayerView& kv) {
  return Scratch::Floats(kv.head_dim) * static_cast<int64_t>(sizeof(float));
}

// ---- Storing

template <class T>
void StoreKvAs(const KvLayerView& kv, BlockId block, int slot, const float* k, const float* v) {
  for (int h = 0; h < kv.num_kv_heads; ++h) {
    const int64_t head_index = int64_t{block} * kv.num_kv_heads + h;
    const int64_t offset = head_index * kv.block_size * kv.head_dim;
    T* k_column = static_cast<T*>(kv.k) + offset + slot;
    T* v_row = static_cast<T*>(kv.v) + offset + int64_t{slot} * kv.head_dim;
    const float* k_head = k + int64_t{h} * kv.head_dim;
    const float* v_head = v + int64_t{h} * kv.head_dim;
    ForEachVector(kv.head_dim, [=](auto load, auto store) { store(v_row, load(v_head)); });
    for (int d = 0; d < kv.head_dim; d += kWidth) {
      const int count = static_cast<int>(Smaller(kWidth, kv.head_dim - d));
      T rounded[kWidth];
      Store(rounded, LoadPartial(k_head + d, count));
      for (int i = 0; i < count; ++i) k_column[int64_t{d + i} * kv.block_size] = rounded[i];
    }
  }
}

void StoreKv(const KvLayerView& kv, BlockId block, int slot, const float* k, const float* v) {
  if (kv.dtype == DType::kF32) return StoreKvAs<float>(kv, block, slot, k, v);
  if (kv.dtype == DType::kBF16) return StoreKvAs<BF16>(kv, block, slot, k, v);
  StoreKvAs<F16>(kv, block, slot, k, v);
}

void FillAttention(Kernels* table) {
  table->store_kv = StoreKv;
  table->attention = Attention;
  table->attention_scratch_bytes = AttentionScratchBytes;
}

}  // namespace
}  // namespace trireme::cpu
