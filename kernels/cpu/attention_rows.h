// Passes of query rows over the KV: scores, online softmax, values. Part of attention_impl.h.
#pragma once

#include "kernels/cpu/attention_product.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd.h"

namespace trireme::cpu {
namespace {

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

// Scores of all rows over one tile, made weights. Rows that see different parts share a
// micro-kernel: every score is a chain of its own, and Softmax hides those that a row does not see.
template <class T>
void WeighTile(const AttentionParams& params, const RowSet& rows, int64_t tile_begin, int head_dim,
               const Tile<T>& tile, const Scratch& scratch) {
  for (int64_t first = rows.begin; first < rows.end; first += kMicroRows) {
    const int64_t end = Smaller(first + kMicroRows, rows.end);
    const Range seen = {VisiblePart(params, rows.PositionOf(first), tile_begin).begin,
                        VisiblePart(params, rows.PositionOf(end - 1), tile_begin).end};
    if (seen.begin >= seen.end) continue;
    const int row = static_cast<int>(first - rows.begin), count = static_cast<int>(end - first);
    float* scores = scratch.scores + row * kTile;
    std::memset(scores, 0, sizeof(float) * kTile * count);
    Multiply(count,
             Product<T>{scratch.q + row * head_dim, head_dim, tile.k, tile.k_stride, 0, head_dim,
                        scores, kTile},
             seen.begin / kWidth, (seen.end + kWidth - 1) / kWidth);
    for (int i = 0; i < count; ++i) {
      const Range range = VisiblePart(params, rows.PositionOf(first + i), tile_begin);
      if (range.begin < range.end) Softmax(params, range, row + i, scratch);
    }
  }
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

}  // namespace
}  // namespace trireme::cpu
